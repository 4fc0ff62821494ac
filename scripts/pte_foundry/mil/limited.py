"""Loading and running within limits: instructions, time, and the memory that torch allocates."""

from collections.abc import Iterator
from contextlib import contextmanager

from pte_foundry.limits import Limits, current, metered
from pte_foundry.upstream.torch_allocations import Allocations


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Limit what the block takes; within another such block, the limits of that one apply.

    The interpreters decide which operations are watched: it takes some microseconds for each
    operator of torch.

    Raises:
        LimitError: a limit is exceeded, or the machine has no more memory.
    """
    if current() is not None:  # a delegate of a program that runs
        yield
        return
    with metered(limits) as meter:
        meter.watch = Allocations(meter.allocate)
        yield
