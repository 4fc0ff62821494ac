"""The inputs of a model's methods, as its module shows them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

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


class Signatures(Functions):
    """The functions of a model module that show the inputs of its methods."""

    def build(self) -> nn.Module:
        """Returns the model."""
        raise NotImplementedError

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
    def layout(self) -> InputLayout:
        """How a sample is given to the first method; ``forward()`` if there is only one."""
        return next(iter(self.layouts.values()))

    @property
    def plays(self) -> bool:
        """Whether samples are conversations (:meth:`play`), or inputs of the only method."""
        return self.has("play") or len(self.layouts) > 1

    def example_inputs(self, method: str | None = None) -> Sample:
        """Returns the tensors of one sample of a method, by default the first one."""
        method = method or next(iter(self.layouts))
        layout = self.layouts[method]
        with model_errors(self.path, self.shown_by):
            sample = layout.flat(self._examples[method])
            check.check_sample(sample, layout.labels(sample))
        return sample

    def input_names(self, module: nn.Module, method: str | None = None) -> list[str]:
        """Returns the names of a method's flat inputs, by default the first one's."""
        method = method or next(iter(self.layouts))
        with entered(module, method):
            return self.layouts[method].names(module)

    def dynamic_shapes(self, module: nn.Module | None = None, method: str | None = None) -> Any:
        """Returns ``dynamic_shapes`` of the flat inputs for ``torch.export``; None: all static.

        Args:
            module: the model, for the names of its parameters; by default it is built if needed.
            method: of the program; by default the first one.
        """
        shapes = self._declared_shapes(method)
        if shapes is None:
            return None
        method = method or next(iter(self.layouts))
        layout = self.layouts[method]
        if layout.plain:
            return shapes
        built = self.build() if module is None else module
        with model_errors(self.path, "dynamic_shapes"), entered(built, method):
            return layout.shapes(built, shapes)

    def _declared_shapes(self, method: str | None) -> Any:
        if not self.has("dynamic_shapes"):
            return None
        with model_errors(self.path, "dynamic_shapes"):
            shapes = self.call("dynamic_shapes")
            if shapes is not None and self.has("methods"):
                method = method or next(iter(self.layouts))
                shapes = by_method(shapes, self.layouts, "shapes").get(method)
        return shapes

    @cached_property
    def _sizes(self) -> dict[str, Sizes]:
        return {}

    def sizes(self, method: str | None = None, module: nn.Module | None = None) -> Sizes:
        """Returns the sizes that the flat inputs of a method may have.

        From then on, the method's layout checks the inputs of calls.

        Args:
            method: of the program; by default the first one.
            module: the model, for the names of its parameters; by default it is built if needed.
        """
        method = method or next(iter(self.layouts))
        if method not in self._sizes:
            layout, example = self.layouts[method], self.example_inputs(method)
            shapes, enumerated = self._declared_shapes(method), self._enumerated(method)
            if shapes is None and not enumerated:
                names, specs = layout.labels(example), [None] * len(example)
            else:
                built = self.build() if module is None else module
                with model_errors(self.path, "dynamic_shapes"), entered(built, method):
                    names, specs = layout.names(built), layout.specs(built, shapes)
            layout.sizes = self._sizes[method] = Sizes.of(example, names, specs, enumerated)
        return self._sizes[method]

    def _enumerated(self, method: str) -> Shapes:
        """The config's ``enumerated_shapes`` of a method."""
        try:
            return of_method(self.enumerated, method, list(self.layouts))
        except ValueError as error:
            raise ModelError(f"{self.path}: enumerated_shapes in the config {error}.") from error
