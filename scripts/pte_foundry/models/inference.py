"""Runs models in PyTorch on evaluation samples: the fp32 reference and quantized programs.

Buffers have their initial values at the start of every sample, so that the order of samples has no
effect.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pte_foundry.errors import FoundryError, ModelError, ProgramError
from pte_foundry.models.checks import check_outputs
from pte_foundry.models.folding import Folding
from pte_foundry.models.methods import FORWARD
from pte_foundry.models.module import ModelModule
from pte_foundry.models.play import (
    RECORDED_SAMPLES,
    Program,
    Run,
    conversations,
    flattened,
    play,
    rebuilt,
)
from pte_foundry.models.tensors import Call, Sample, Samples, as_sample, output_names_of
from pte_foundry.models.user_code import model_errors


def reference(model: ModelModule) -> Samples:
    """Returns the evaluation inputs, the eager fp32 model's outputs for them, and the labels."""
    module = model.build()
    reset = resetter(module)
    model.resolve(module)
    if model.plays:
        return _played_reference(model, module, reset)
    inputs, labels = model.evaluation()
    outputs, names = [], None
    for index, sample in enumerate(inputs):
        reset()
        found = model.run_named(module, sample)
        names = _same_names(model, found, names, index)
        outputs.append(as_sample(found))
    return Samples(inputs, outputs, labels, model.input_names(module), names or [])


def _same_names(
    model: ModelModule, found: Sample | dict[str, Tensor], names: list[str] | None, index: int
) -> list[str]:
    """The names of a sample's outputs, which all samples have."""
    keys = list(found) if isinstance(found, dict) else []
    if names not in (None, keys):
        function = "play" if model.has("play") else "forward"
        raise ModelError(
            f"{model.path}: {function}() returned {keys or 'no names'} for sample {index}, but "
            f"{names or 'no names'} before; return the same outputs for all samples"
        )
    return keys


def _played_reference(model: ModelModule, module: nn.Module, reset: Callable[[], None]) -> Samples:
    samples, labels = conversations(model, "evaluation")
    methods: dict[str, dict[str, list[str]]] = {
        method: {"inputs": model.input_names(module, method)} for method in model.layouts
    }

    def run(method: str, inputs: Sample) -> Sample | dict[str, Tensor]:
        found = model.run_named(module, inputs, method)
        methods[method]["outputs"] = output_names_of(found)
        return found

    with model_errors(model.path, "evaluation"):
        structures, inputs = zip(*map(flattened, samples), strict=True)
    calls: list[Call] = []
    outputs, names = [], None
    for index, (structure, tensors) in enumerate(zip(structures, inputs, strict=True)):
        reset()
        known = {call.method for call in calls} if index >= RECORDED_SAMPLES else set()
        recorded = model.layouts.keys() - known
        with model_errors(model.path, "play"):
            # From its parts, as everybody else will see it.
            sample = rebuilt(structure, [tensor.clone() for tensor in tensors])
            found = play(model, Run(model.layouts, run, index, calls, recorded), sample)
            check_outputs(as_sample(found), output_names_of(found))
        names = _same_names(model, found, names, index)
        outputs.append(as_sample(found))
    if unused := [method for method in methods if "outputs" not in methods[method]]:
        raise ModelError(
            f"{model.path}: play() never calls {', '.join(unused)}, so nothing would tell whether "
            "the method works; call it, or leave it out of methods()."
        )
    return Samples(list(inputs), outputs, labels, [], names or [], list(structures), calls, methods)


def evaluate(
    programs: ExportedProgram | Mapping[str, ExportedProgram],
    reference: Samples,
    model: ModelModule | None = None,
) -> Samples:
    """Returns the outputs of a quantized model for the inputs of ``reference``, with its labels.

    The result has no inputs: they are in the reference already.

    Args:
        programs: by method, or the only one.
        reference: what :func:`reference` returned.
        model: whose ``play()`` to use; not needed unless the samples are conversations.
    """
    if isinstance(programs, ExportedProgram):
        programs = {FORWARD: programs}
    modules, resets = {}, []
    folding = Folding()
    for method, program in programs.items():
        # Decompresses the weights once, not for every sample.
        modules[method] = folding.fold(program.module())
        resets.append(resetter(modules[method]))

    def run(method: str, inputs: Sample) -> Sample | dict[str, Tensor]:
        with torch.no_grad():
            return modules[method](*inputs)

    def reset() -> None:
        for one in resets:
            one()

    outputs = played(run, reset, reference, model, next(iter(programs)))
    calls = recalled(run, reset, reference)
    return Samples([], outputs, reference.labels, calls=calls, methods=reference.methods)


def played(
    run: Program,
    reset: Callable[[], None],
    reference: Samples,
    model: ModelModule | None,
    only: str = FORWARD,
) -> list[Sample]:
    """Returns the outputs of a program for each sample.

    Args:
        run: runs a method of the program.
        reset: gives its buffers and states their initial values.
        reference: what :func:`reference` returned.
        model: see :func:`evaluate`.
        only: the method whose inputs the samples are, unless they are conversations.

    Raises:
        ProgramError: ``play()`` fails on what the program computes.
    """

    def named(method: str, inputs: Sample) -> dict[str, Tensor]:
        found, names = as_sample(run(method, inputs)), reference.methods[method]["outputs"]
        if len(found) != len(names):
            raise ProgramError(f"{method}() returned {len(found)} outputs, not {len(names)}")
        return dict(zip(names, found, strict=True))

    outputs: list[Sample] = []
    for index, inputs in enumerate(reference.inputs):
        reset()
        if reference.methods:
            sample = rebuilt(reference.structures[index], [t.clone() for t in inputs])
            found = as_sample(_played(model, Run(model.layouts, named, index), sample))
            if len(found) != len(reference.outputs[index]):
                raise ProgramError(
                    f"play() returned {len(found)} outputs for sample {index}, and "
                    f"{len(reference.outputs[index])} with the fp32 model"
                )
        else:
            found = as_sample(run(only, inputs))
        outputs.append(found)
    return outputs


def recalled(run: Program, reset: Callable[[], None], reference: Samples) -> list[Call]:
    """Returns the recorded calls of the fp32 model with a program's outputs, without inputs."""
    calls: list[Call] = []
    for call in reference.calls:
        if not calls or calls[-1].sample != call.sample:
            reset()
        found = as_sample(run(call.method, tuple(t.clone() for t in call.inputs)))
        calls.append(Call(call.sample, call.method, (), found))
    return calls


def _played(model: ModelModule, run: Run, sample: Any) -> Sample | dict[str, Tensor]:
    """Plays a sample on a program that may be wrong, which is then no fault of the module.

    Raises:
        ProgramError: the module's ``play()`` fails, with its line.
        FoundryError: what the program raises.
    """
    try:
        with model_errors(model.path, "play"):
            try:
                return play(model, run, sample)
            except ModelError:
                raise
            except (FoundryError, OSError) as error:
                failed = error
    except ModelError as error:
        raise ProgramError(f"it makes the model's own code fail: {error}") from error
    raise failed


def resetter(module: nn.Module, names: Container[str] | None = None) -> Callable[[], None]:
    """Returns a function that gives buffers the values that they have now.

    Args:
        module: its buffers may be replaced meanwhile, but not reshaped.
        names: which buffers, by name; None: all.
    """
    initial = {
        name: buffer.detach().clone()
        for name, buffer in module.named_buffers()
        if names is None or name in names
    }

    def reset() -> None:
        for name, buffer in module.named_buffers():
            if name in initial:
                buffer.detach().copy_(initial[name])

    return reset
