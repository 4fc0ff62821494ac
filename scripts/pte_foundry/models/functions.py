"""Loads the Python file of a model, and calls its functions with what they name as parameters.

The contract of the functions is in :mod:`pte_foundry.models.module`.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from pte_foundry.errors import ModelError
from pte_foundry.models import sources
from pte_foundry.models.contract import FUNCTIONS, INPUTS, REQUIRED, RESERVED
from pte_foundry.models.imports import Imports, follow, model_paths
from pte_foundry.models.source_loader import SourceLoader, check_loaded, make_importable
from pte_foundry.models.user_code import model_errors
from pte_foundry.upstream import torchvision_operators
from pte_foundry.upstream.torch_mkl_functions import replace_mkl_functions


class DataFiles(dict[str, Path]):
    """The data files of the config by name; a missing one is a ModelError with the fix."""

    def __missing__(self, name: str) -> Path:
        known = ", ".join(sorted(self)) or "none"
        raise ModelError(
            f"reads the data file {name!r}, but the config has only: {known}; "
            f"add {name!r} under the model's `data`"
        )


@dataclass(frozen=True)
class Functions:
    """The functions of a model, with the weights, data and options that they receive."""

    path: Path
    module: ModuleType
    weights: Path | None
    data: DataFiles
    options: dict[str, Any]
    root: Path | None = None
    imports: Imports = field(default_factory=Imports)
    seed: int | None = None
    """Of random weights; None: ``build()`` reads its weights."""
    default: ModuleType | None = None
    """Has the functions that ``module`` lacks."""
    given: dict[str, Any] = field(default_factory=dict)
    """What functions of ``default`` receive besides options."""
    enumerated: Mapping[str, Any] = field(default_factory=dict)
    """The config's ``enumerated_shapes``."""
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
        seed: int | None = None,
        origin: Mapping[str, Any] | None = None,
        enumerated: Mapping[str, Any] | None = None,
    ) -> Self:
        """Executes the file, and checks names and options.

        With ``origin`` (``kind``, ``architecture``) the library's own functions for this kind of
        model stand in for those that the file does not define.

        It can import what is beside it, and in the project's folder ``root`` if that is given.
        Installed packages have precedence. ``imports`` is what :func:`follow` has found already.
        """
        replace_mkl_functions()
        torchvision_operators.make_importable()  # transformers and timm import torchvision too
        if path.suffix != ".py" or not path.is_file():
            raise ModelError(f"{path}: there is no such Python file; correct the model's `module`.")
        loader = SourceLoader(f"models.{path.stem}", str(path.absolute()))
        spec = spec_from_file_location(loader.name, path, loader=loader)
        module = module_from_spec(spec)
        imports = follow(path, root) if imports is None else imports
        make_importable(imports.beside, model_paths(path, root))
        sys.modules[spec.name] = module  # dataclasses and torch.export look classes up by name
        known = set(sys.modules)
        origin = origin or {}
        default = import_module(sources.name_of(origin["kind"])) if origin else None
        loaded = cls(
            path,
            module,
            weights,
            DataFiles(data),
            dict(options),
            root,
            imports,
            seed,
            default,
            {key: value for key, value in origin.items() if key != "kind" and value is not None},
            enumerated or {},
            known,
        )
        with model_errors(path, "import"):
            spec.loader.exec_module(module)
            loaded.check_imports()
        loaded._check_functions()
        return loaded

    def has(self, function: str) -> bool:
        """Whether the module defines this function of the contract."""
        return self._function(function) is not None

    def _function(self, name: str) -> Callable | None:
        """The module's function, or the default one unless it reads data that is not there."""
        own = getattr(self.module, name, None)
        if name == INPUTS[0] and callable(getattr(self.module, INPUTS[1], None)):
            return None  # its methods() replace the default example_inputs()
        found = own if callable(own) else getattr(self.default, name, None)
        reads = getattr(found, "reads", None)
        return found if reads is None or not self.data.keys().isdisjoint(reads) else None

    def _check_functions(self) -> None:
        missing = [name for name in REQUIRED if not self.has(name)]
        if not any(map(self.has, INPUTS)):
            missing.append(INPUTS[0])
        if missing:
            raise ModelError(f"{self.path}: the module lacks {', '.join(missing)}(); define it.")
        if all(callable(getattr(self.module, name, None)) for name in INPUTS):
            raise ModelError(
                f"{self.path}: the module defines both example_inputs() and methods(); with "
                "several methods remove example_inputs()."
            )
        clashes = sorted(set(self.options) & RESERVED)
        if clashes:
            raise ModelError(f"{self.path}: option {clashes[0]!r} is a reserved name; rename it.")
        taken: set[str] = set()
        for name in filter(self.has, FUNCTIONS):
            for parameter in inspect.signature(self._function(name)).parameters.values():
                every = parameter.kind is parameter.VAR_KEYWORD
                taken.update(self.options if every else [parameter.name])
        unused = sorted(set(self.options) - taken)
        if unused:
            known = ", ".join(sorted(taken - RESERVED)) or "none"
            raise ModelError(
                f"{self.path}: no function takes the option {', '.join(map(repr, unused))}. "
                f"Options of this model: {known}. Correct the model's `options`."
            )

    def call(self, name: str, **given: Any) -> Any:
        """Calls a function of the model with what it takes, and with ``given``."""
        function = self._function(name)
        returned = function(**self._arguments(function, given))
        self.check_imports()
        return returned

    def check_imports(self) -> None:
        """Checks that all of the user's code that was loaded is in the model's digests."""
        folders = model_paths(self.path, self.root)
        check_loaded(self.checked, self.imports.files.values(), folders)

    def _arguments(self, function: Callable, given: dict[str, Any]) -> dict[str, Any]:
        offered = {**self.options, **self.given, "data": self.data, **given}
        if self.weights is not None and self.seed is None:
            offered["weights"] = self.weights
        arguments: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= self.options
            elif parameter.name in offered:
                arguments[parameter.name] = offered[parameter.name]
            elif parameter.default is parameter.empty:
                if parameter.name == "weights" and self.seed is not None:
                    raise ModelError(
                        "takes 'weights', and random weights have no file; write `weights=None` "
                        "and load them only if they are given"
                    )
                where = "`weights`" if parameter.name == "weights" else "its `options`"
                raise ModelError(
                    f"takes {parameter.name!r}, which has no value; there are: "
                    f"{', '.join(sorted(offered))}; add it to the model in the config, "
                    f"under {where}"
                )
        return arguments
