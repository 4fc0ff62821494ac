"""The inputs of a model's methods, as its module shows them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn

from pte_foundry.errors import ModelError
from pte_foundry.models import checks as check
from pte_foundry.models.enumerated import Shapes, of_method
from pte_foundry.models.functions import Functions
from pte_foundry.models.layout import InputLayout
from pte_foundry.models.methods import FORWARD, by_method, check_methods, entered
from pte_foundry.models.sizes import Sizes
from pte_foundry.models.tensors import Sample
from pte_foundry.models.user_code import model_errors


class Resolved(NamedTuple):
    """The dynamic sizes of a method's flat inputs.

    Attributes:
        sizes: that they may have.
        specs: ``dynamic_shapes`` of each of them.
    """

    sizes: Sizes
    specs: tuple[Any, ...]


class Signatures(Functions, ABC):
    """The functions of a model module that show the inputs of its methods."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Returns the model."""

    @cached_property
    def _examples(self) -> dict[str, Any]:
        # Default samples are drawn around them, so they must not differ from step to step.
        with model_errors(self.path, self.shown_by), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = self.call(self.shown_by)
            return check_methods(made) if self.has("methods") else {FORWARD: made}

    @property
    def shown_by(self) -> str:
        """The function that shows the inputs."""
        return "methods" if self.has("methods") else "example_inputs"

    @cached_property
    def layouts(self) -> dict[str, InputLayout]:
        """How a sample is given to each method of the program, in their order."""
        with model_errors(self.path, self.shown_by):
            fixed = not self.has("dynamic_shapes")
            return {name: InputLayout(sample, fixed) for name, sample in self._examples.items()}

    @property
    def first_method(self) -> str:
        """The name of the first method; ``forward`` if the model has no ``methods()``."""
        return next(iter(self.layouts)) if self.has("methods") else FORWARD

    @property
    def layout(self) -> InputLayout:
        """How a sample is given to the first method."""
        return self.layouts[self.first_method]

    @property
    def plays(self) -> bool:
        """Whether samples are conversations (:meth:`play`), or inputs of the only method."""
        return self.has("play") or len(self.layouts) > 1

    def example_inputs(self, method: str | None = None) -> Sample:
        """Returns the tensors of one sample of a method, by default the first one."""
        method = method or self.first_method
        layout = self.layouts[method]
        with model_errors(self.path, self.shown_by):
            sample = layout.flat(self._examples[method])
            check.check_sample(sample, layout.labels(sample))
        return sample

    def input_names(self, module: nn.Module, method: str | None = None) -> list[str]:
        """Returns the names of a method's flat inputs, by default the first one's."""
        method = method or self.first_method
        with entered(module, method):
            return self.layouts[method].names(module)

    def dynamic_shapes(self, module: nn.Module | None = None, method: str | None = None) -> Any:
        """Returns ``dynamic_shapes`` of the flat inputs for ``torch.export``; None: all static.

        Args:
            module: see :meth:`resolve`.
            method: of the program; by default the first one.
        """
        if not self._declared:
            return None
        method = method or self.first_method
        shapes = self._declared.get(method)
        if shapes is None or self.layouts[method].plain:
            return shapes
        return self.resolve(module)[method].specs

    def sizes(self, method: str | None = None) -> Sizes:
        """Returns the sizes that the flat inputs of a method may have, by default the first one."""
        return self.resolve()[method or self.first_method].sizes

    def resolve(self, module: nn.Module | None = None) -> dict[str, Resolved]:
        """Returns the dynamic sizes of the flat inputs, by method.

        From then on, the layouts check the inputs of calls.

        Args:
            module: the model, whose parameters name positional inputs. By default it is built, at
                most once, if their sizes are dynamic.
        """
        if not self._resolved:
            varying = [name for name in self.layouts if self._varies(name)]
            if module is None and not all(self.layouts[name].by_keyword for name in varying):
                module = self.build()
            self._resolved.update(
                {name: self._resolve(name, module, name in varying) for name in self.layouts}
            )
            for name, layout in self.layouts.items():
                layout.sizes = self._resolved[name].sizes
        return self._resolved

    @cached_property
    def _resolved(self) -> dict[str, Resolved]:
        return {}

    def _resolve(self, method: str, module: nn.Module | None, varies: bool) -> Resolved:
        layout, example = self.layouts[method], self.example_inputs(method)
        if not varies:
            names, specs = layout.labels(example), [None] * len(example)
        else:
            inside = nullcontext() if module is None else entered(module, method)
            with model_errors(self.path, "dynamic_shapes"), inside:
                names = layout.names(module)
                specs = layout.specs(module, self._declared.get(method))
        return Resolved(Sizes.of(example, names, specs, self._enumerated(method)), tuple(specs))

    def _varies(self, method: str) -> bool:
        return self._declared.get(method) is not None or bool(self._enumerated(method))

    @cached_property
    def _declared(self) -> dict[str, Any]:
        """What ``dynamic_shapes()`` returns, by method."""
        if not self.has("dynamic_shapes"):
            return {}
        with model_errors(self.path, "dynamic_shapes"):
            shapes = self.call("dynamic_shapes")
            if shapes is None:
                return {}
            several = self.has("methods")
            return by_method(shapes, self.layouts, "shapes") if several else {FORWARD: shapes}

    def _enumerated(self, method: str) -> Shapes:
        """The config's ``enumerated_shapes`` of a method."""
        try:
            return of_method(self.enumerated, method, list(self.layouts))
        except ValueError as error:
            raise ModelError(f"{self.path}: enumerated_shapes in the config {error}.") from error
