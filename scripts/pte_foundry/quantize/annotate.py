"""Which settings apply to which operator, and the quantizer that obeys.

Upstream's own filters (executorch 1.5.1, ``get_module_name_filter``, ``get_object_type_filter``)
never match on a program that ``torch.export`` made: they ask every node of a pattern, but weights
have no origin in the graph's metadata, and they compare classes with what has become the classes'
names. So per type and per name settings would be ignored without a word. Here an operator is asked
and its weights follow it.
"""

import re
from collections.abc import Callable
from typing import Any

import attrs
from coremltools.optimize.torch.quantization import (
    LinearQuantizerConfig,
    ModuleLinearQuantizerConfig,
)
from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
from torch.fx import Graph, GraphModule, Node

from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.quantize.settings import resolve
from pte_foundry.upstream.executorch_annotators import annotate_patterns
from pte_foundry.upstream.executorch_quantizer_patterns import fast_patterns
from pte_foundry.upstream.executorch_source_partitions import partitions_per_call

# Kind ("name", "type" or "global") and name of a configuration.
Owner = tuple[str, str]
GLOBAL: Owner = ("global", "")


def _module_config(where: str, fields: dict[str, Any] | None) -> ModuleLinearQuantizerConfig | None:
    if fields is None:
        return None
    if fields.get("weight_dtype", "qint8") not in ("qint8", "quint8", "float32"):
        # Upstream takes qint4 and quint4 here and quantizes to 8 bits without saying so.
        raise ConfigError(
            f"{where}: weight_dtype {fields['weight_dtype']!r} is not possible with PT2E; "
            "allowed are 'qint8', 'quint8' and 'float32'. For 4 bits use the scheme 'quantize'."
        )
    known = [field.name for field in attrs.fields(ModuleLinearQuantizerConfig) if field.init]
    if unknown := sorted(fields.keys() - set(known)):
        raise ConfigError(f"{where}: unknown keys {unknown}; allowed are {known}")
    try:
        return ModuleLinearQuantizerConfig.from_dict(fields)
    except Exception as error:  # cattrs wraps what attrs raises in groups of its own
        causes = getattr(error, "exceptions", [error])
        raise ConfigError(f"{where}: {'; '.join(str(cause) for cause in causes)}") from error


def _type_name(kind: Any) -> str:
    return kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def _type_depth(node: Node, kind: Any) -> int:
    """How deep in the nesting of modules ``kind`` is found around ``node``; -1 if it is not."""
    stack = [_type_name(entry[1]) for entry in node.meta.get("nn_module_stack", {}).values()]
    if isinstance(kind, type):
        name = _type_name(kind)
        return max((depth for depth, entry in enumerate(stack) if entry == name), default=-1)
    if sources := node.meta.get("source_fn_stack"):  # strict export keeps the function itself
        found = any(source is kind for _, source in sources)
    else:
        # Non-strict export keeps a function's short name, for those called by torch.nn too.
        called_by_torch = bool(stack) and stack[-1].startswith("torch.nn.modules.")
        called = node.meta.get("torch_fn", ("", ""))[1].rpartition(".")[2]
        names = {kind.__name__, re.sub(r"^i(add|mul)$", r"\1_", kind.__name__)}
        found = not called_by_torch and called in names
    return len(stack) if found else -1


class Settings:
    """The configurations of one recipe and the rule which of them an operator belongs to.

    The longest module name wins, then the innermost module type (a function counts as inside all
    modules), then the global configuration: the order in which settings are written is irrelevant.

    Args:
        settings: see ``pte_foundry.quantize.settings.activation_slice``.

    Raises:
        ConfigError: a field, a value or a type name is wrong.
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
        """Which configuration the operator ``node`` belongs to."""
        stack = node.meta.get("nn_module_stack", {}).values()
        # A module that is called again appears as "name@1".
        modules = {re.sub(r"@\d+$", "", path).removeprefix("L['self'].") for path, _ in stack}
        names = [name for name in self.upstream.module_name_configs if name in modules]
        if names:
            return "name", max(names, key=len)
        depths = {name: _type_depth(node, kind) for name, kind in self._types.items()}
        innermost = max(depths, key=depths.__getitem__, default=None)
        if innermost is not None and depths[innermost] >= 0:
            return "type", innermost
        return GLOBAL

    def filter(self, owner: Owner) -> Callable[[Node], bool]:
        """Says of a node whether it is ``owner``'s; parameters agree with any operator."""
        return lambda node: node.op == "get_attr" or self.owner(node) == owner

    def check_used(self, graph: Graph) -> None:
        """Refuses settings for names and types that occur nowhere in ``graph``.

        Raises:
            ModelError: naming all of them.
        """
        owners = {self.owner(node) for node in graph.nodes if node.op == "call_function"}
        if unused := sorted(self.configs.keys() - owners - {GLOBAL}):
            keys = ", ".join(f"module_{kind}_configs.{name}" for kind, name in unused)
            raise ModelError(
                f"{keys}: no operator of the model comes from there without having a more "
                "specific setting; correct the name or remove the entry"
            )


class Quantizer(CoreMLQuantizer):
    """``CoreMLQuantizer`` with fast patterns and with filters that work on exported programs."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = Settings(settings)
        super().__init__(self.settings.upstream)

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotates every recognised pattern; see ``CoreMLQuantizer.annotate``."""
        with fast_patterns(model), partitions_per_call():
            for owner, config in self.settings.configs.items():
                annotate_patterns(self, model, config, self.settings.filter(owner))
        return model
