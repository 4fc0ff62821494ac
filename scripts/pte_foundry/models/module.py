"""Loads a model module: the Python file that defines a model.

A model module defines functions; the loader calls them and checks what they return.

``build(...) -> nn.Module``
    the model, in eval mode, with fp32 weights
``example_inputs(...) -> sample``
    one sample, for ``torch.export``
``methods(...) -> dict[str, sample]``, instead of ``example_inputs``
    the methods of the program, each with a sample of its inputs. All are exported from the model
    that ``build()`` returns and share its weights. A method calls the model's attribute of its
    name, a method or a submodule, or else ``forward()``
``evaluation(...) -> (list[sample], Tensor or None)``, optional
    the samples for validation, and their labels: one row for each sample; by default synthetic ones
    (``models.default_samples``)
``calibration(...) -> Iterable[sample]``, optional
    the samples that determine the ranges of quantized activations, in a fixed order; by default
    synthetic ones
``dynamic_shapes(...)``, optional
    as ``torch.export.export`` takes it, or by the names of inputs (``batch.ids``); of a model with
    ``methods()`` a dict by method, from which methods with static shapes may be left out
``play(run, sample, ...) -> outputs``, optional
    one sample as a conversation: any number of calls ``run(METHOD, *inputs, **named_inputs)``.
    ``run`` is the fp32 model, the quantized program or the artifact, with buffers and states as
    they start. It takes the inputs as a sample of the method has them, and returns the outputs as
    a tuple that also has names (``run("decode", token)["logits"]``). What ``play`` returns is
    compared and scored, like what ``forward()`` returns without it. (Choices, such as the next
    token, should be the sample's: after the first other choice nothing can be compared.) Samples
    of ``evaluation()`` and ``calibration()`` can then have any structure and sizes; ``play`` gets
    mappings as dicts. By default the method is called once with the sample. If there are several,
    each of them is, and a sample is like what ``methods()`` returns
``score(outputs, labels, ...) -> dict[str, float]``, optional
    task metrics against the labels
``agreement(outputs, reference, ...) -> dict[str, float]``, optional
    task metrics against the outputs of the fp32 model, in addition to those of every model, or an
    empty dict if these outputs have none; its
    ``top1_agreement``, if it returns one, replaces the share of equal argmax, which is otherwise
    only measured where integer labels show a class axis (``validate.agreement``)
``output_names(...) -> list[str]``, optional
    a name for each output of ``forward()``, instead of those that its keys give; of a model with
    ``methods()`` a dict of such lists by method
``stored_weights(...) -> dict[str, StoredWeight]``, optional
    the quantized weights that the file holds, by the names of their modules, for recipes with a
    ``stored`` step (``models.stored_weights``)
``constants(...) -> dict[str, value]``, optional
    methods of the artifact that return a constant: numbers, bools, strings, or lists of numbers,
    for the app that runs it. It may take ``shapes``, the target's choice of shapes
    (``models.constants``)
``train(...) -> dict[str, Tensor]``, optional
    a state dict, for a model that is trained by the rule ``train``

``...`` is any of these parameters, passed by name to the functions that have them, like pytest's
fixtures: ``weights`` (Path), ``data`` (dict[str, Path]: the config's data files) and every key of
the config's ``options``. ``**options`` receives all options. An option that no function takes is
an error. ``outputs`` and ``reference`` are lists of output tuples, one for each sample; each tensor
also has its name: ``outputs[0]["logits"]``.

A sample is a tuple of the positional inputs of ``forward()``, or a dict of its keyword inputs.
Inputs, and what ``forward()`` returns, may be nested in tuples, lists, dicts (``ModelOutput``),
dataclasses and named tuples; None is allowed in both, True and False in inputs. They are flattened
as ``torch.export`` does. Names are keys joined by dots (``logits``, ``hidden.0``), a positional
input has the name of its parameter, and outputs without keys are ``output_0`` and so on.

The file can import what is beside it, and modules of the project by their path from its folder, as
well as installed packages. What it imports is part of its digests, through all helpers and without
running them (``models.imports``); imports by computed names are declared in the config.

All samples have the dtypes and shapes of ``example_inputs()``; with ``dynamic_shapes`` any sizes
within its ranges, or those that the config's ``enumerated_shapes`` list. A dynamic size is at least
2 in the example, because ``torch.export`` takes 1 for fixed, and may be 1 in samples.
Several methods cannot share a buffer that one of them writes to, because each method of a program
has states of its own: pass what they share as inputs, and return it as outputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models import checks as check
from pte_foundry.models.default_samples import default_samples
from pte_foundry.models.methods import by_method, entered
from pte_foundry.models.outputs import NamedSample, named_outputs
from pte_foundry.models.signatures import Signatures
from pte_foundry.models.stored_weights import StoredWeight, check_stored
from pte_foundry.models.tensors import (
    Sample,
    as_sample,
    copy_tensors,
    default_output_names,
    distinct,
    output_names_of,
)
from pte_foundry.models.user_code import model_errors


@dataclass(frozen=True)
class ModelModule(Signatures):
    """A loaded model module with the weights, data and options that its functions receive.

    Every method raises ModelError, with file, function and fix, if the module's function raises or
    breaks the contract. An exception of the module's own code is its cause, with traceback.
    """

    def build(self) -> nn.Module:
        """Returns the model with its weights: in eval mode, finite, floating point in fp32."""
        # Transformer layers have a fast path for inference that torch.export does not take. Its
        # outputs for padding are zeros, so no export would agree with such a reference.
        torch.backends.mha.set_fastpath_enabled(False)
        with model_errors(self.path, "build"):
            model = self.call("build") if self.seed is None else self._initialized()
            check.check_model(model)
        if self.seed is not None and self.weights is not None:  # what initialize() returned
            copy_tensors(self.weights, distinct(model.state_dict()))
        return model

    def _initialized(self) -> Any:
        """What ``build()`` returns under the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.call("build")

    def initialize(self) -> dict[str, Tensor]:
        """Returns the weights that ``build()`` gives a model under the seed, like :meth:`train`.

        Of weights that share their memory, such as those of a tied head, it is the first.
        """
        return distinct(self.build().state_dict())

    def calibration(self, limit: int | None = None) -> list[Sample]:
        """Returns the calibration samples in their order, at most ``limit`` of them."""
        example, sizes = self.example_inputs(), self.sizes()
        if not self.has("calibration"):
            return default_samples(example, "calibration", limit, sizes)
        with model_errors(self.path, "calibration"):
            samples = list(islice(self.call("calibration"), limit))
            return check.check_samples(samples, self.layout, example, sizes)

    def evaluation(self) -> tuple[list[Sample], Any]:
        """Returns the samples for validation, and their labels or None."""
        example, sizes = self.example_inputs(), self.sizes()
        if not self.has("evaluation"):
            return default_samples(example, "evaluation", None, sizes), None
        with model_errors(self.path, "evaluation"):
            samples, labels = check.samples_and_labels(self.call("evaluation"))
            flat = check.check_samples(samples, self.layout, example, sizes)
            check.check_labels(labels, samples)
        return flat, labels

    def score(
        self,
        outputs: list[Sample],
        labels: Any,
        names: Sequence[str] | None = None,
        *,
        finite: bool = True,
    ) -> dict[str, float | None]:
        """Returns task metrics against the labels; empty without labels or without ``score``.

        Args:
            outputs: of a program, one tuple for each sample.
            labels: one row for each sample, or None.
            names: of the outputs.
            finite: refuse numbers that are not finite; otherwise they become None.
        """
        if labels is None or not self.has("score"):
            return {}
        named = [NamedSample(sample, names) for sample in outputs]
        return self._metrics("score", finite, outputs=named, labels=labels)

    def agreement(
        self,
        outputs: list[Sample],
        reference: list[Sample],
        names: Sequence[str] | None = None,
        *,
        finite: bool = True,
    ) -> dict[str, float | None]:
        """Task metrics against another program's outputs, like :meth:`score`; empty without it."""
        if not self.has("agreement"):
            return {}
        ours, theirs = ([NamedSample(s, names) for s in side] for side in (outputs, reference))
        return self._metrics("agreement", finite, outputs=ours, reference=theirs)

    def output_names(
        self, count: int, keys: Sequence[str] | None = None, method: str | None = None
    ) -> list[str]:
        """Returns the names of the ``count`` outputs of a method; ``keys`` are its own."""
        default = list(keys or default_output_names(count))
        if not self.has("output_names"):
            return default
        with model_errors(self.path, "output_names"):
            names = self.call("output_names")
            if self.has("methods"):
                names = by_method(names, self.layouts, "lists of names").get(
                    method or self.first_method, default
                )
            check.check_output_names(names, count)
        return names

    def stored_weights(self, model: nn.Module) -> dict[str, StoredWeight]:
        """Returns the quantized weights of the file that ``model`` was built from, by module."""
        if not self.has("stored_weights"):
            return {}
        with model_errors(self.path, "stored_weights"):
            return check_stored(self.call("stored_weights"), model)

    def train(self) -> dict[str, Tensor]:
        """Trains the model; returns its state dict, contiguous, finite, floating point in fp32."""
        with model_errors(self.path, "train"):
            if not self.has("train"):
                raise ModelError("is missing; define it, or give the model `weights`")
            state = self.call("train")
            check.check_weights(state)
        return {name: tensor.detach().contiguous() for name, tensor in state.items()}

    def run(self, model: nn.Module, inputs: Sample, method: str | None = None) -> Sample:
        """Returns the outputs of the built model for one sample: a tuple of finite tensors."""
        return as_sample(self.run_named(model, inputs, method))

    def run_named(
        self, model: nn.Module, inputs: Sample, method: str | None = None
    ) -> dict[str, Tensor] | Sample:
        """Returns the outputs by name, or as a tuple if neither keys nor the module name them."""
        method = method or self.first_method
        arguments, keywords = self.layouts[method].arguments(inputs)
        with model_errors(self.path, method), entered(model, method), torch.no_grad():
            returned = model(*arguments, **keywords)
            self.check_imports()
            outputs = self.outputs_of(returned, method)
            check.check_outputs(as_sample(outputs), output_names_of(outputs))
        return outputs

    def outputs_of(self, returned: Any, method: str | None = None) -> dict[str, Tensor] | Sample:
        """Returns what a method returned as :meth:`run_named` does."""
        outputs = named_outputs(returned)
        if not self.has("output_names"):
            return outputs
        flat = as_sample(outputs)
        keys = list(outputs) if isinstance(outputs, dict) else None
        return dict(zip(self.output_names(len(flat), keys, method), flat, strict=True))

    def _metrics(self, function: str, finite: bool, **given: Any) -> dict[str, float | None]:
        with model_errors(self.path, function):
            metrics = self.call(function, **given)
            check.check_metrics(metrics, finite, empty=function == "agreement")
        values = {name: float(value) for name, value in metrics.items()}
        return {name: v if math.isfinite(v) else None for name, v in values.items()}
