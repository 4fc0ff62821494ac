"""Samples as conversations: calls of a program's methods, in the order that ``play()`` makes them.

``play(run, sample)`` is the same for the fp32 model, the quantized programs and the artifact; only
``run`` differs. The first calls are recorded with the fp32 model, so that every method can also be
compared by itself, on the inputs that the fp32 model had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from pte_foundry.errors import ModelError
from pte_foundry.models.checks import check_labels, samples_and_labels
from pte_foundry.models.containers import children, kind_of
from pte_foundry.models.default_samples import default_samples
from pte_foundry.models.layout import InputLayout
from pte_foundry.models.outputs import NamedSample, named_outputs
from pte_foundry.models.tensors import Call, Sample, as_sample
from pte_foundry.models.user_code import model_errors

if TYPE_CHECKING:
    from pte_foundry.models.module import ModelModule

RECORDED_SAMPLES, RECORDED_CALLS = 2, 2
"""How many samples are recorded, and how many calls of each method. Of a method that these do not
call, the first sample that does is. Caches among the inputs and outputs take much room: 24 MB a
call for SmolLM2 with 256 tokens."""

Program = Callable[[str, Sample], Mapping[str, torch.Tensor] | Sequence[torch.Tensor]]
"""Runs a method on flat inputs; returns its outputs, by name if they have names."""


@dataclass
class Run:
    """The ``run`` that ``play()`` receives.

    Attributes:
        layouts: how each method takes its inputs.
        program: what runs a method.
        sample: number of the sample.
        calls: receives the first calls of each method that is recorded.
        recorded: these methods.
    """

    layouts: Mapping[str, InputLayout]
    program: Program
    sample: int = 0
    calls: list[Call] = field(default_factory=list)
    recorded: Container[str] = ()
    _count: Counter[str] = field(default_factory=Counter)

    def __call__(self, method: str, /, *inputs: Any, **named: Any) -> NamedSample:
        """Calls a method; returns its outputs, which also have names.

        Raises:
            ModelError: there is no such method, or it takes other inputs.
        """
        if method not in self.layouts:
            raise ModelError(f"calls {method!r}, which is no method; methods: {self._known}")
        layout = self.layouts[method]
        # Clones, so that neither side sees what the other one writes in place afterwards.
        flat = tuple(tensor.clone() for tensor in layout.call(method, inputs, named))
        kept = method in self.recorded and self._count[method] < RECORDED_CALLS
        given = tuple(tensor.clone() for tensor in flat) if kept else ()
        found = self.program(method, flat)
        outputs = tuple(tensor.detach().clone() for tensor in as_sample(found))
        if kept:
            self._count[method] += 1
            self.calls.append(Call(self.sample, method, given, outputs))
        return NamedSample(outputs, list(found) if isinstance(found, Mapping) else None)

    @property
    def _known(self) -> str:
        return ", ".join(self.layouts)


def flattened(sample: Any) -> tuple[Any, Sample]:
    """Returns the structure of a sample as JSON-able data, and its tensors in order.

    Raises:
        ModelError: it has something that is neither a tensor nor plain data.
    """
    tensors: list[torch.Tensor] = []

    def structure(value: Any, name: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
            return "tensor"
        if value is None or isinstance(value, bool | int | float | str):
            return [value]
        inside = children(value)
        if inside is None:
            raise ModelError(
                f"has {kind_of(value)} as {name or 'a sample'}; use tensors, numbers and text, in "
                "any nesting of tuples, lists and dicts"
            )
        below = [structure(child, f"{name}.{key}".lstrip(".")) for key, child in inside]
        if isinstance(value, list) or (isinstance(value, tuple) and not isinstance(value, dict)):
            return {"list" if isinstance(value, list) else "tuple": below}
        keys = [key for key, _ in inside]
        if not all(isinstance(key, str) for key in keys):
            raise ModelError(f"has keys in {name or 'a sample'} that are no text; use text")
        return {"dict": [list(pair) for pair in zip(keys, below, strict=True)]}

    return structure(sample, ""), tuple(tensors)


def rebuilt(structure: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """Returns the sample that :func:`flattened` took apart; mappings and dataclasses as dicts."""
    left = iter(tensors)

    def value(part: Any) -> Any:
        if part == "tensor":
            return next(left)
        if isinstance(part, list):
            return part[0]
        kind, inside = next(iter(part.items()))
        if kind == "dict":
            return {key: value(child) for key, child in inside}
        made = [value(child) for child in inside]
        return made if kind == "list" else tuple(made)

    return value(structure)


def conversations(
    model: ModelModule, function: str, limit: int | None = None
) -> tuple[list[Any], torch.Tensor | None]:
    """Returns the samples of ``evaluation`` or ``calibration`` for :func:`play`, and labels.

    Raises:
        ModelError: the function breaks the contract, or ``play()`` is defined without it.
    """
    if not model.has(function):
        return _default_conversations(model, function, limit), None
    with model_errors(model.path, function):
        found, labels = model.call(function), None
        if function == "evaluation":
            found, labels = samples_and_labels(found)
        samples = list(islice(found, limit))
        if not samples:
            raise ModelError("gave no samples; at least one is needed")
        check_labels(labels, samples)
    return samples, labels


def _default_conversations(model: ModelModule, function: str, limit: int | None) -> list[Any]:
    if model.has("play"):
        raise ModelError(
            f"{model.path}: play() needs samples, which can have any structure; define "
            f"{function}()."
        )
    columns = {}
    for method, layout in model.layouts.items():
        made = default_samples(model.example_inputs(method), function, limit, model.sizes(method))
        arguments = map(layout.arguments, made)
        columns[method] = [keywords or positional for positional, keywords in arguments]
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def play(model: ModelModule, run: Run, sample: Any) -> dict[str, torch.Tensor] | Sample:
    """Plays a sample; returns the outputs to compare and to score, by name if they have names.

    Raises:
        ModelError: the sample or what ``play()`` returns breaks the contract.
        Exception: what a program raises, or ``play()`` about a program's outputs.
    """
    if model.has("play"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.sample)  # what it draws is the same for every program
            returned = model.call("play", run=run, sample=sample)
        names = returned.names if isinstance(returned, NamedSample) else ()
        return dict(zip(names, returned, strict=True)) if names else named_outputs(returned)
    if not isinstance(sample, Mapping) or sample.keys() != model.layouts.keys():
        raise ModelError(
            f"gave a sample that is not like methods(), a dict of {', '.join(model.layouts)}; "
            "change it, or define play()"
        )
    outputs: dict[str, torch.Tensor] = {}
    for method, given in sample.items():
        keywords = dict(given) if isinstance(given, Mapping) else {}
        found = run(method, *(() if keywords else given), **keywords)
        outputs |= {f"{method}.{n}": t for n, t in zip(found.names, found, strict=True)}
    return outputs


def play_all(
    model: ModelModule, function: str, limit: int | None, run: Program, reset: Callable[[], None]
) -> None:
    """Plays the samples of ``evaluation`` or ``calibration`` on a program of the fp32 model.

    Args:
        model, function, limit: see :func:`conversations`.
        run: runs a method.
        reset: gives buffers and states their initial values.
    """
    model.resolve()
    samples, _ = conversations(model, function, limit)
    for index, sample in enumerate(samples):
        reset()
        with model_errors(model.path, "play"):
            play(model, Run(model.layouts, run, index), rebuilt(*flattened(sample)))
