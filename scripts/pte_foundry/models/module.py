"""Loads a model module: the Python file that defines a model.

A model module defines functions; the loader calls them and checks what they return.

``build(...) -> nn.Module``
    the model, in eval mode, with fp32 weights
``example_inputs(...) -> tuple[Tensor, ...]``
    one sample, for ``torch.export``
``evaluation(...) -> (list[tuple[Tensor, ...]], Tensor or None)``
    the samples for validation, and their labels: one row for each sample
``calibration(...) -> Iterable[tuple[Tensor, ...]]``, optional
    the samples that determine the ranges of quantized activations, in a fixed order
``dynamic_shapes(...)``, optional
    as ``torch.export.export`` takes it
``score(outputs, labels, ...) -> dict[str, float]``, optional
    task metrics against the labels
``agreement(outputs, reference, ...) -> dict[str, float]``, optional
    task metrics against the outputs of the fp32 model, in addition to those of every model; its
    ``top1_agreement``, if it returns one, replaces the share of equal argmax, which is otherwise
    only measured where integer labels show a class axis (``validate.agreement``)
``output_names(...) -> list[str]``, optional
    a name for each output of ``forward()``, for reports; by default ``output_0`` and so on
``train(...) -> dict[str, Tensor]``, optional
    a state dict, for a model that is trained by the rule ``train``

``...`` is any of these parameters, passed by name to the functions that have them, like pytest's
fixtures: ``weights`` (Path), ``data`` (dict[str, Path]: the config's data files) and every key of
the config's ``options``. ``**options`` receives all options. An option that no function takes is
an error. ``outputs`` and ``reference`` are lists of output tuples, one for each sample.

The file can import what is beside it, and modules of the project by their path from its folder, as
well as installed packages. What it imports is part of its digests, through all helpers and without
running them (``models.imports``); imports by computed names are declared in the config.

All samples have the dtypes and shapes of ``example_inputs()``, with ``dynamic_shapes`` the ranks.
"""

import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models import checks as check
from pte_foundry.models.imports import Imports, follow, model_paths
from pte_foundry.models.source_loader import SourceLoader, check_loaded, make_importable
from pte_foundry.models.tensors import Sample, as_sample, default_output_names
from pte_foundry.models.user_code import model_errors
from pte_foundry.upstream.torch_mkl_functions import replace_mkl_functions
from pte_foundry.upstream.torchvision_operators import declare_missing_operators

REQUIRED = ("build", "example_inputs", "evaluation")
OPTIONAL = ("calibration", "dynamic_shapes", "score", "agreement", "output_names", "train")
# Parameters that the loader passes itself; options must have other names.
RESERVED = ("weights", "data", "outputs", "labels", "reference")


class DataFiles(dict[str, Path]):
    """The data files of the config by name; a missing one is a ModelError with the fix."""

    def __missing__(self, name: str) -> Path:
        known = ", ".join(sorted(self)) or "none"
        raise ModelError(
            f"reads the data file {name!r}, but the config has only: {known}; "
            f"add {name!r} under the model's `data`"
        )


@dataclass(frozen=True)
class ModelModule:
    """A loaded model module with the weights, data and options that its functions receive.

    Every method raises ModelError, with file, function and fix, if the module's function raises or
    breaks the contract. An exception of the module's own code is its cause, with traceback.
    """

    path: Path
    module: ModuleType
    weights: Path | None
    data: DataFiles
    options: dict[str, Any]
    root: Path | None = None
    imports: Imports = field(default_factory=Imports)
    checked: set[str] = field(default_factory=set)
    """Names of the modules that other code has imported, or that are known to be in ``imports``."""

    @classmethod
    def load(
        cls,
        path: Path,
        weights: Path | None,
        data: dict[str, Path],
        options: dict[str, Any],
        root: Path | None = None,
        imports: Imports | None = None,
    ) -> "ModelModule":
        """Executes the file, and checks names and options.

        It can import what is beside it, and in the project's folder ``root`` if that is given.
        Installed packages have precedence. ``imports`` is what :func:`follow` has found already.
        """
        replace_mkl_functions()
        declare_missing_operators()  # first: the file may import torchvision or transformers
        if path.suffix != ".py" or not path.is_file():
            raise ModelError(f"{path}: there is no such Python file; correct the model's `module`.")
        loader = SourceLoader(f"models.{path.stem}", str(path.absolute()))
        spec = spec_from_file_location(loader.name, path, loader=loader)
        module = module_from_spec(spec)
        imports = follow(path, root) if imports is None else imports
        make_importable(imports.beside, model_paths(path, root))
        sys.modules[spec.name] = module  # dataclasses and torch.export look classes up by name
        known = set(sys.modules)
        loaded = cls(path, module, weights, DataFiles(data), dict(options), root, imports, known)
        with model_errors(path, "import"):
            spec.loader.exec_module(module)
            loaded._check_imports()
        loaded._check_functions()
        return loaded

    def has(self, function: str) -> bool:
        """Whether the module defines this function of the contract."""
        return callable(getattr(self.module, function, None))

    def build(self) -> nn.Module:
        """Returns the model with its weights: in eval mode, finite, floating point in fp32."""
        # Transformer layers have a fast path for inference that torch.export does not take. Its
        # outputs for padding are zeros, so no export would agree with such a reference.
        torch.backends.mha.set_fastpath_enabled(False)
        with model_errors(self.path, "build"):
            model = self._call("build")
            check.check_model(model)
        return model

    def example_inputs(self) -> Sample:
        """Returns one sample, for ``torch.export``."""
        with model_errors(self.path, "example_inputs"):
            sample = self._call("example_inputs")
            check.check_sample(sample)
        return sample

    def dynamic_shapes(self) -> Any:
        """Returns ``dynamic_shapes`` for ``torch.export.export``; None if all are static."""
        with model_errors(self.path, "dynamic_shapes"):
            return self._call("dynamic_shapes") if self.has("dynamic_shapes") else None

    def calibration(self, limit: int | None = None) -> list[Sample]:
        """Returns the calibration samples in their order, at most ``limit`` of them."""
        example = self.example_inputs()
        with model_errors(self.path, "calibration"):
            if not self.has("calibration"):
                raise ModelError("is missing, and this recipe needs samples; define it")
            samples = list(islice(self._call("calibration"), limit))
            check.check_samples(samples, example, self.has("dynamic_shapes"))
        return samples

    def evaluation(self) -> tuple[list[Sample], Any]:
        """Returns the samples for validation, and their labels or None."""
        example = self.example_inputs()
        with model_errors(self.path, "evaluation"):
            returned = self._call("evaluation")
            if not isinstance(returned, tuple) or len(returned) != 2:
                raise ModelError("must return two things: (samples, labels or None)")
            samples, labels = returned
            check.check_samples(samples, example, self.has("dynamic_shapes"))
            check.check_labels(labels, samples)
        return samples, labels

    def score(
        self, outputs: list[Sample], labels: Any, *, finite: bool = True
    ) -> dict[str, float | None]:
        """Returns task metrics against the labels; empty without labels or without ``score``.

        Args:
            outputs: of a program, one tuple for each sample.
            labels: one row for each sample, or None.
            finite: refuse numbers that are not finite; otherwise they become None.
        """
        if labels is None or not self.has("score"):
            return {}
        return self._metrics("score", finite, outputs=outputs, labels=labels)

    def agreement(
        self, outputs: list[Sample], reference: list[Sample], *, finite: bool = True
    ) -> dict[str, float | None]:
        """Task metrics against another program's outputs, like :meth:`score`; empty without it."""
        if not self.has("agreement"):
            return {}
        return self._metrics("agreement", finite, outputs=outputs, reference=reference)

    def output_names(self, count: int) -> list[str]:
        """Returns the names of the ``count`` outputs of ``forward()``."""
        if not self.has("output_names"):
            return default_output_names(count)
        with model_errors(self.path, "output_names"):
            names = self._call("output_names")
            check.check_output_names(names, count)
        return names

    def train(self) -> dict[str, Tensor]:
        """Trains the model; returns its state dict, contiguous, finite, floating point in fp32."""
        with model_errors(self.path, "train"):
            if not self.has("train"):
                raise ModelError("is missing; define it, or give the model `weights`")
            state = self._call("train")
            check.check_weights(state)
        return {name: tensor.detach().contiguous() for name, tensor in state.items()}

    def run(self, model: nn.Module, inputs: Sample) -> Sample:
        """Returns the outputs of the built model for one sample: a tuple of finite tensors."""
        with model_errors(self.path, "forward"), torch.no_grad():
            returned = model(*inputs)
            self._check_imports()
            check.check_outputs(returned)
        return as_sample(returned)

    def _check_functions(self) -> None:
        missing = [name for name in REQUIRED if not self.has(name)]
        if missing:
            raise ModelError(f"{self.path}: the module lacks {', '.join(missing)}(); define it.")
        clashes = sorted(set(self.options) & set(RESERVED))
        if clashes:
            raise ModelError(f"{self.path}: option {clashes[0]!r} is a reserved name; rename it.")
        taken: set[str] = set()
        for name in filter(self.has, REQUIRED + OPTIONAL):
            for parameter in inspect.signature(getattr(self.module, name)).parameters.values():
                every = parameter.kind is parameter.VAR_KEYWORD
                taken.update(self.options if every else [parameter.name])
        unused = sorted(set(self.options) - taken)
        if unused:
            known = ", ".join(sorted(taken - set(RESERVED))) or "none"
            raise ModelError(
                f"{self.path}: no function takes the option {', '.join(map(repr, unused))}. "
                f"Options of this model: {known}. Correct the model's `options`."
            )

    def _call(self, name: str, **given: Any) -> Any:
        function = getattr(self.module, name)
        returned = function(**self._arguments(function, given))
        self._check_imports()
        return returned

    def _check_imports(self) -> None:
        folders = model_paths(self.path, self.root)
        check_loaded(self.checked, self.imports.files.values(), folders)

    def _arguments(self, function: Callable, given: dict[str, Any]) -> dict[str, Any]:
        offered = {**self.options, "data": self.data, **given}
        if self.weights is not None:
            offered["weights"] = self.weights
        arguments: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= self.options
            elif parameter.name in offered:
                arguments[parameter.name] = offered[parameter.name]
            elif parameter.default is parameter.empty:
                where = "`weights`" if parameter.name == "weights" else "its `options`"
                raise ModelError(
                    f"takes {parameter.name!r}, which has no value; there are: "
                    f"{', '.join(sorted(offered))}; add it to the model in the config, "
                    f"under {where}"
                )
        return arguments

    def _metrics(self, function: str, finite: bool, **given: Any) -> dict[str, float | None]:
        with model_errors(self.path, function):
            metrics = self._call(function, **given)
            check.check_metrics(metrics, finite)
        values = {name: float(value) for name, value in metrics.items()}
        return {name: v if math.isfinite(v) else None for name, v in values.items()}
