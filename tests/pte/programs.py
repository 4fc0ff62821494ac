"""Small models, and how the tests of this folder lower them."""

from __future__ import annotations

import torch


class Small(torch.nn.Module):
    """A convolution, an activation, a view, a linear layer: what most classifiers are made of."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.linear = torch.nn.Linear(8 * 36, 16)
        with torch.no_grad():
            self.linear.bias += bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).flatten(1))


class Counter(torch.nn.Module):
    """Adds up its inputs: a program with state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)
        return self.total * 2


class Branches(torch.nn.Module):
    """Jumps and moves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))


class Sizes(torch.nn.Module):
    """Arithmetic on sizes known only at run time, and a view by them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length = x.shape[0], x.shape[1]
        return (x.view(batch * length, 4) + float(1)).view(batch, length * 4) / length


SMALL_INPUT = (torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8),)


def lower(
    model: torch.nn.Module,
    inputs: tuple,
    *,
    units: str = "ALL",
    system: str = "iOS18",
    precision: str = "float16",
    skip: list[str] | None = None,
    **config: object,
) -> bytes:
    """A ``.pte`` with Core ML delegates, as upstream writes it."""
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

    specs = CoreMLBackend.generate_compile_specs(
        compute_unit=coremltools.ComputeUnit[units],
        minimum_deployment_target=coremltools.target[system],
        compute_precision=coremltools.precision(precision),
    )
    partitioner = CoreMLPartitioner(
        compile_specs=specs, take_over_mutable_buffer=True, skip_ops_for_coreml_delegation=skip
    )
    program = torch.export.export(model.eval(), inputs)
    edge = to_edge_transform_and_lower(program, partitioner=[partitioner])
    return edge.to_executorch(ExecutorchBackendConfig(**config)).buffer


def lower_portable(model: torch.nn.Module, inputs: tuple, dynamic_shapes: object = None) -> bytes:
    """A ``.pte`` without delegates."""
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(model.eval(), inputs, dynamic_shapes=dynamic_shapes)
    return to_edge_transform_and_lower(program).to_executorch().buffer
