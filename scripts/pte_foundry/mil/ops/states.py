"""States (``iOS18/states.py``). coremltools writes ``coreml_update_state`` as write and read."""

from torch import Tensor

from pte_foundry.mil.parameters import Buffer
from pte_foundry.mil.registry import op


@op("read_state", since="iOS18")
def read_state(*, input: Buffer) -> Tensor:
    return input.clone()


@op("write_state", since="iOS18")
def write_state(*, input: Buffer, data: Buffer) -> tuple[()]:
    if data.shape != input.shape or data.dtype != input.dtype:
        raise ValueError(
            f"{data.dtype}{list(data.shape)} written to a state of {input.dtype}{list(input.shape)}"
        )
    input.copy_(data)
    return ()
