"""Quantization by PT2E (torchao 0.18, ``CoreMLQuantizer`` of executorch 1.5.1), in two stages.

Upstream calibrates and converts in one go. Here calibration is a stage with a file, so that editing
weight settings does not recalibrate. For that, the statistics of activations must not depend on
weight settings. Upstream's observers do not have that property: they are inside of ``FakeQuantize``
modules, so each of them observes activations that were computed from weights and activations
quantized already. ``calibrate`` observes the float model instead, which also keeps the noise of the
first, badly scaled samples out of the statistics.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import FakeQuantize, disable_fake_quant
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from pte_foundry.errors import ModelError
from pte_foundry.models import operators
from pte_foundry.models.programs import forget_history
from pte_foundry.quantize import ranges
from pte_foundry.quantize.annotate import Quantizer
from pte_foundry.upstream import torch_size_ranges

Statistics = dict[str, dict[str, str]]
"""Ranges of activations by name: ``min`` and ``max`` as ``float.hex``, which keeps every bit.

Bounds can be infinite (masks); such activations are not quantized.
"""

_SHOWN = 8
_WEIGHTED = ("conv1d", "conv2d", "conv3d", "linear")


def prepare(
    program: ExportedProgram, settings: dict[str, Any], kind: type[Quantizer] = Quantizer
) -> GraphModule:
    """Returns the program as a module with observers; the program itself stays as it is.

    Args:
        program: a float program, fresh or loaded from a file.
        settings: ``global_config``, ``module_type_configs`` and ``module_name_configs`` with the
            fields of coremltools' ``LinearQuantizerConfig``; see ``annotate.Settings``. With
            ``shared: True``, names and types that occur nowhere are logged, not refused.
        kind: the class of the quantizer.

    Raises:
        ConfigError: upstream refuses a setting.
        ModelError: a name or type in the settings occurs nowhere in the program.
    """
    quantizer = kind(settings)
    quantizer.settings.check_used(program.graph, settings.get("shared", False))
    module = program.module()
    for node in operators.states(module.graph):  # else running it would change the program's
        owner, _, name = node.target.rpartition(".")
        setattr(module.get_submodule(owner), name, module.get_buffer(node.target).clone())
    return prepare_pt2e(module, quantizer)


class Observed:
    """A float program whose activations are observed while it runs.

    Args:
        program: a float program.
        settings: as for ``prepare``; of the weight settings none has an effect, except that
            ``weight_dtype: float32`` means "not quantized at all".

    Attributes:
        module: runs the program.
        states: names of the buffers that it writes to.
    """

    def __init__(self, program: ExportedProgram, settings: dict[str, Any]) -> None:
        # Settings that apply nowhere are refused by convert, which knows whether others use them.
        self.module = prepare(program, settings | {"shared": True})
        self.states = {str(node.target) for node in operators.states(self.module.graph)}
        self._activations = _observers(self.module)
        if not self._activations:
            return
        for name, child in list(self.module.named_modules(remove_duplicate=False)):
            if isinstance(
                child, FakeQuantize
            ):  # its observer alone: nothing is quantized meanwhile
                setattr(self.module, name, child.activation_post_process)

    def __bool__(self) -> bool:
        return bool(self._activations)

    def statistics(self) -> Statistics:
        """Returns the ranges so far. Raises ModelError if one is nan."""
        return {name: _range(name, observer) for name, observer in self._activations.items()}


def calibrate(
    program: ExportedProgram, settings: dict[str, Any], samples: Iterable[tuple[Any, ...]]
) -> Statistics:
    """Observes the ranges of all activations that are going to be quantized.

    The default observer is a moving average, so the result depends on the order of the samples.
    States are kept from one sample to the next, so that their ranges are observed.

    Args:
        program, settings: as for :class:`Observed`.
        samples: positional arguments of one call each.

    Returns:
        ``{activation: {"min": hex, "max": hex}}``, empty if no activation is quantized.

    Raises:
        ModelError: there are no samples, the model does not take one, or a range is nan.
    """
    observed = Observed(program, settings)
    if not observed:
        return {}
    count = 0
    with torch.no_grad():
        for count, sample in enumerate(samples, start=1):
            try:
                observed.module(*sample)
            except Exception as error:
                raise ModelError(f"calibration sample {count}: {error}") from error
    if count == 0:
        raise ModelError("calibration() yields no sample; quantizing activations needs at least 1")
    return observed.statistics()


def convert(
    program: ExportedProgram,
    settings: dict[str, Any],
    statistics: Statistics | None,
    example_inputs: tuple[Any, ...],
    dynamic_shapes: Any = None,
) -> ExportedProgram:
    """Returns the quantized program.

    Args:
        program: the float program that was calibrated.
        settings: as for ``prepare``.
        statistics: what ``calibrate`` returned for the same activation settings; may be None or
            empty if only weights are quantized.
        example_inputs: positional arguments to export with; their values have no effect.
        dynamic_shapes: as for ``torch.export.export``.

    Raises:
        ConfigError: upstream refuses a setting.
        ModelError: the statistics are not those of this program and these settings, or a weight
            that is computed from the model's inputs would have to be quantized, or is not finite;
            or there is nothing to quantize.
    """
    for name, value in program.named_parameters():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{name!r} holds values that are not finite")
    prepared = prepare(program, settings)
    activations = _observers(prepared)
    if not any(isinstance(module, FakeQuantize) for module in prepared.modules()):
        raise ModelError(_nothing_to_quantize(program))
    _load(activations, statistics or {})
    prepared.apply(disable_fake_quant)
    for observer in activations.values():
        observer.disable_observer()
    states = {
        n.target: prepared.get_buffer(n.target).clone() for n in operators.states(prepared.graph)
    }
    with torch.no_grad():
        prepared(*example_inputs)  # shows weights and other constants to their observers
    for name, value in states.items():
        prepared.get_buffer(name).copy_(value)
    constants = ranges.constants(prepared, activations)
    left = ranges.unsuited(activations, constants)
    ranges.warn(prepared, left)
    ranges.leave_in_float(prepared, [(constants | activations)[name] for name in left])
    converted = convert_pt2e(prepared)
    _drop_unused_parameters(converted)
    result = torch.export.export(converted, example_inputs, dynamic_shapes=dynamic_shapes)
    torch_size_ranges.restore(result, program)
    forget_history(result)
    return result


def _drop_unused_parameters(module: GraphModule) -> None:
    """Removes the float weights, which conversion leaves next to the quantized ones."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in list(module.named_parameters(remove_duplicate=False)):
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)


def _load(activations: Mapping[str, FakeQuantize], statistics: Statistics) -> None:
    if activations.keys() != statistics.keys():
        missing = sorted(activations.keys() - statistics.keys())
        surplus = sorted(statistics.keys() - activations.keys())
        raise ModelError(
            "the calibration is of another program or of other settings: "
            f"activations without statistics {missing}, statistics without activation {surplus}; "
            "calibrate again"
        )
    for name, observer in activations.items():
        observed = observer.activation_post_process
        observed.min_val.copy_(torch.tensor(float.fromhex(statistics[name]["min"])))
        observed.max_val.copy_(torch.tensor(float.fromhex(statistics[name]["max"])))


def _range(name: str, observer: FakeQuantize) -> dict[str, str]:
    observed = observer.activation_post_process
    low, high = observed.min_val.item(), observed.max_val.item()
    if math.isnan(low) or math.isnan(high):
        raise ModelError(
            f"activation {name!r} ranges from {low} to {high} on the calibration samples; "
            "only finite values can be quantized (a moving average of infinite values is nan; "
            "`activation_observer: min_max` leaves infinite values in float)"
        )
    return {"min": low.hex(), "max": high.hex()}


def _observers(prepared: GraphModule) -> dict[str, FakeQuantize]:
    """Observers of activations, by names that do not depend on weight settings.

    torchao numbers all of its observer modules in one sequence, those of weights included. The name
    here is that of the observed value, with a number if it has several observers. Observers of
    constants, such as weights, are left out: they need no samples.
    """
    modules = dict(prepared.named_modules(remove_duplicate=False))
    varying = operators.varying(prepared.graph)
    activations: dict[str, FakeQuantize] = {}
    constant: list[FakeQuantize] = []
    for node in prepared.graph.nodes:
        observer = modules[node.target] if node.op == "call_module" else None
        if not isinstance(observer, FakeQuantize):
            continue
        observed = node.args[0]
        while observed.op == "call_module":  # an observer behind another one
            observed = observed.args[0]
        if node not in varying:
            constant.append(observer)
        elif any(_takes_as_weight(user, node) for user in node.users):
            raise ModelError(
                f"{observed.name!r} is used as a weight but depends on the inputs; leave the "
                "module that does so unquantized: module_name_configs: {<name>: null}"
            )
        elif observer not in activations.values():
            taken = sum(name.partition(":")[0] == observed.name for name in activations)
            activations[f"{observed.name}:{taken}" if taken else observed.name] = observer
    if shared := [name for name, observer in activations.items() if observer in constant]:
        raise ModelError(f"activations {shared} share their quantization with a constant")
    return activations


def _nothing_to_quantize(program: ExportedProgram) -> str:
    counts = Counter(
        node.target.overloadpacket.__name__
        for node in program.graph.nodes
        if hasattr(node.target, "overloadpacket")
    )
    found = ", ".join(name for name, _ in counts.most_common(_SHOWN))
    return (
        "the recipe quantizes nothing in this model. PT2E quantizes convolutions, linears, matmul, "
        "and add, mul and pools of fp32 activations that no setting by type or name excludes; "
        f"the model's operators are {found or 'none'}. Leave the recipe out for this model, or use "
        "a recipe with `scheme: quantize`"
    )


def _takes_as_weight(user: Node, observer: Node) -> bool:
    packet = getattr(user.target, "overloadpacket", None)
    return packet is not None and packet.__name__ in _WEIGHTED and user.args[1] is observer
