"""What a recipe's settings mean before any library is loaded. No heavy imports here."""

import importlib
from typing import Any

from pte_foundry.errors import ConfigError

# coremltools 9.0, optimize/torch/quantization/quantization_config.py
ACTIVATION_DEFAULTS = {
    "activation_dtype": "quint8",
    "activation_observer": "moving_average_min_max",
    "quantization_scheme": "symmetric",
}


def activation_slice(settings: dict[str, Any]) -> dict[str, Any]:
    """The part of PT2E settings that calibration depends on, with every default written out.

    Of the weight settings only ``weight_dtype: float32`` is kept, because upstream takes it as
    "quantize nothing here"; editing any other must not cause a new calibration. A slice of a slice
    is the slice.

    Args:
        settings: ``global_config``, ``module_type_configs``, ``module_name_configs``, each
            configuration with the fields of coremltools' ``ModuleLinearQuantizerConfig``.
    """

    def reduced(config: dict[str, Any] | None) -> dict[str, Any] | None:
        if config is None:
            return None
        if config.get("weight_dtype") == "float32":
            # The scheme stays, since upstream wants it to be the same everywhere.
            scheme = config.get("quantization_scheme", ACTIVATION_DEFAULTS["quantization_scheme"])
            return {"weight_dtype": "float32", "quantization_scheme": scheme}
        return {name: config.get(name, value) for name, value in ACTIVATION_DEFAULTS.items()}

    by_type = settings.get("module_type_configs") or {}
    by_name = settings.get("module_name_configs") or {}
    everything = settings.get("global_config")
    if everything is None and not by_type and not by_name:
        everything = {}  # upstream's meaning of an empty configuration: all of its defaults
    return {
        "global_config": reduced(everything),
        "module_type_configs": {name: reduced(config) for name, config in by_type.items()},
        "module_name_configs": {name: reduced(config) for name, config in by_name.items()},
    }


def resolve(dotted: str) -> Any:
    """The class or function with a dotted name, such as ``torch.nn.Linear`` or ``operator.add``.

    Raises:
        ConfigError: nothing importable has that name.
    """
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        if callable(found):
            return found
        break
    raise ConfigError(
        f"{dotted!r} is not the dotted name of a module class or a function; "
        "write for example 'torch.nn.Linear', 'torch.nn.functional.relu' or 'operator.add'"
    )
