"""Matches settings by module type and by module name to operators, for ``CoreMLQuantizer``.

Upstream's own filters (executorch 1.5.1, ``get_module_name_filter``, ``get_object_type_filter``)
never match on a program from ``torch.export``: they test every node of a pattern, but weights have
no origin in the graph's metadata; and they compare classes with the names of classes. So settings
per type and per name would be ignored silently. Here only the operator is tested, and its weights
follow it.
"""

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from coremltools.optimize.torch.quantization import (
    LinearQuantizerConfig,
    ModuleLinearQuantizerConfig,
)
from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
from torch.fx import Graph, GraphModule, Node

from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.quantize.float_tensors import data, forget_other_inputs, is_float, masked_scores
from pte_foundry.quantize.settings import resolve
from pte_foundry.upstream.executorch_annotators import annotate_patterns
from pte_foundry.upstream.executorch_quantizer_patterns import fast_patterns
from pte_foundry.upstream.executorch_source_partitions import partitions_per_call

log = logging.getLogger(__name__)

Owner = tuple[str, str]
"""Kind ("name", "type" or "global") and name of a configuration."""

GLOBAL: Owner = ("global", "")


def _module_config(where: str, fields: dict[str, Any] | None) -> ModuleLinearQuantizerConfig | None:
    if fields is None:
        return None
    try:
        return ModuleLinearQuantizerConfig.from_dict(fields)
    except Exception as error:  # cattrs wraps what attrs raises in groups of its own
        causes = getattr(error, "exceptions", [error])
        raise ConfigError(f"{where}: {'; '.join(str(cause) for cause in causes)}") from error


def _type_name(kind: Any) -> str:
    return kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


@cache
def _type_names(kind: Any) -> list[str]:
    """The names of a class and then of its bases: timm's Linear is a torch.nn.Linear too."""
    if isinstance(kind, str):  # as a program on disk has it
        try:
            kind = resolve(kind)
        except Exception:  # a class that a function made, or of a file that is not loaded
            return [kind]
    return [_type_name(base) for base in getattr(kind, "__mro__", [kind])]


def _type_depth(node: Node, kind: Any) -> tuple[int, int]:
    """The depth at which ``kind`` occurs in the nesting of modules around ``node``, or -1.

    Behind it how specific it is there: 0 for the class itself, less for a base.
    """
    kinds = [entry[1] for entry in node.meta.get("nn_module_stack", {}).values()]
    stack = [_type_name(entry) for entry in kinds]
    if isinstance(kind, type):
        name = _type_name(kind)
        names = [_type_names(entry) for entry in kinds]
        found = [(depth, -each.index(name)) for depth, each in enumerate(names) if name in each]
        return max(found, default=(-1, 0))
    if sources := node.meta.get("source_fn_stack"):  # strict export keeps the function itself
        found = any(source is kind for _, source in sources)
    else:
        # Non-strict export keeps a function's short name, for those called by torch.nn too.
        called_by_torch = bool(stack) and stack[-1].startswith("torch.nn.modules.")
        called = node.meta.get("torch_fn", ("", ""))[1].rpartition(".")[2]
        names = {kind.__name__, re.sub(r"^i(add|mul)$", r"\1_", kind.__name__)}
        found = not called_by_torch and called in names
    return (len(stack) if found else -1), 0


class Settings:
    """The configurations of one recipe, and the rule which of them applies to an operator.

    The longest module name wins, then the innermost module type (a function counts as inside all
    modules), then the global configuration. The order in which settings are written has no effect.

    Args:
        settings: ``global_config``, ``module_type_configs`` and ``module_name_configs``, each
            configuration with fields of ``ModuleLinearQuantizerConfig`` (coremltools 9.0,
            optimize/torch/quantization/quantization_config.py). Keys and values are those that
            ``pte_foundry.config`` allows: upstream accepts 4-bit dtypes, for example, and quantizes
            to 8 bits.

    Raises:
        ConfigError: upstream refuses a value, or a type name cannot be imported.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        by_name = settings.get("module_name_configs") or {}
        by_type = settings.get("module_type_configs") or {}
        everything = settings.get("global_config")
        self._types = {name: resolve(name) for name in sorted(by_type)}
        if len(set(self._types.values())) < len(self._types):
            raise ConfigError(f"module_type_configs: two of {list(self._types)} are the same type")
        try:
            self.upstream = LinearQuantizerConfig(
                global_config=_module_config("global_config", everything),
                module_type_configs={
                    kind: _module_config(f"module_type_configs.{name}", by_type[name])
                    for name, kind in self._types.items()
                },
                module_name_configs={
                    name: _module_config(f"module_name_configs.{name}", by_name[name])
                    for name in sorted(by_name)
                },
            )
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(f"PT2E settings: {error}") from error
        self.configs: dict[Owner, ModuleLinearQuantizerConfig | None] = {
            **{("name", k): v for k, v in self.upstream.module_name_configs.items()},
            **{("type", k): self.upstream.module_type_configs[t] for k, t in self._types.items()},
            GLOBAL: self.upstream.global_config,
        }

    def owner(self, node: Node) -> Owner:
        """Returns which configuration applies to the operator ``node``."""
        stack = node.meta.get("nn_module_stack", {}).values()
        # A module that is called again appears as "name@1".
        modules = {re.sub(r"@\d+$", "", path).removeprefix("L['self'].") for path, _ in stack}
        names = [name for name in self.upstream.module_name_configs if name in modules]
        if names:
            return "name", max(names, key=len)
        depths = {name: _type_depth(node, kind) for name, kind in self._types.items()}
        innermost = max(depths, key=depths.__getitem__, default=None)
        if innermost is not None and depths[innermost] >= (0,):
            return "type", innermost
        return GLOBAL

    def filter(self, owner: Owner, quantizable: set[Node]) -> Callable[[Node], bool]:
        """Returns a test whether a node is quantizable and belongs to ``owner``.

        Parameters, constants and buffers belong to all; they are quantizable if they are fp32.
        """

        def applies(node: Node) -> bool:
            if node.op == "get_attr":
                return is_float(node)
            return node in quantizable and self.owner(node) == owner

        return applies

    def check_used(self, graph: Graph, shared: bool) -> None:
        """Refuses settings for names and types that occur nowhere in ``graph``.

        Args:
            graph: the operators of a model.
            shared: other models are built with the settings too, so that they are only logged.

        Raises:
            ModelError: naming all of them.
        """
        owners = {self.owner(node) for node in graph.nodes if node.op == "call_function"}
        if unused := sorted(self.configs.keys() - owners - {GLOBAL}):
            keys = ", ".join(f"module_{kind}_configs.{name}" for kind, name in unused)
            problem = (
                f"{keys}: no operator of the model comes from there without having a more "
                "specific setting"
            )
            if not shared:
                raise ModelError(f"{problem}; correct the name or remove the entry")
            log.info("%s", problem)


class Quantizer(CoreMLQuantizer):
    """``CoreMLQuantizer`` with fast patterns and with filters that work on exported programs.

    It quantizes fp32 data alone, and no masked attention scores (``float_tensors``).
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = Settings(settings)
        super().__init__(self.settings.upstream)

    def quantizable(self, model: GraphModule) -> set[Node]:
        """Returns the operators that may be quantized."""
        return data(model) - masked_scores(model.graph)

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotates every recognised pattern; see ``CoreMLQuantizer.annotate``."""
        with fast_patterns(model), partitions_per_call():
            quantizable = self.quantizable(model)
            for owner, config in self.settings.configs.items():
                applies = self.settings.filter(owner, quantizable)
                annotate_patterns(self, model, config, applies)
        forget_other_inputs(model.graph)
        return model
