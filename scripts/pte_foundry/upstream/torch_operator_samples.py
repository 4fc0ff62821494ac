"""torch's own sample inputs of its operators, with which it tests them.

Stands against: torch 2.13.0
Uses: ``op_db`` (``torch/testing/_internal/common_methods_invocations.py``): by operator a function
    of its Python interface and a generator of sample arguments, which calls ``set_rng_seed``
    (``common_utils.py``) before each.
Remove when: torch publishes its sample inputs.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.testing._internal import common_utils
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo

from pte_foundry.upstream.versions import require

SEED = 1234
require(common_utils, "extract_test_fn", "", patch=__name__)
require(common_utils, "set_rng_seed", "seed", patch=__name__)
require(OpInfo, "sample_inputs", "self device dtype requires_grad kwargs", patch=__name__)


def by_operator() -> dict[str, list[OpInfo]]:
    """List torch's descriptions of operators by the ATen operators that they describe."""
    found = defaultdict(list)
    for info in op_db:
        if info.name.startswith("masked."):
            continue  # compositions with the names of the operators that they mask
        # The Python function, and the operator that it calls, if that has another name.
        for name in {info.aten_name, info.name.rpartition(".")[2]}:
            found[name].append(info)
    return dict(found)


def samples(info: OpInfo, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    """Yield the calls that torch tests an operator with: positional arguments, keyword arguments.

    They are the same each time. There are none if the operator does not take the dtype.
    """
    if dtype not in info.supported_dtypes("cpu"):
        return
    numbers, arrays = random.getstate(), np.random.get_state()
    try:
        with (
            torch.random.fork_rng(),
            patch.object(common_utils, "set_rng_seed", _seed),
            # It looks on the stack for the test that asks, whose name would change the samples.
            patch.object(common_utils, "extract_test_fn", lambda: None),
        ):
            _seed()
            found = list(info.sample_inputs("cpu", dtype, requires_grad=False))
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)
    # Those of meshgrid come in the order of a set of texts, which differs between processes.
    for sample in sorted(found, key=lambda sample: str(sample.kwargs.get("indexing"))):
        yield (sample.input, *sample.args), sample.kwargs


def _seed(seed: int | None = None) -> None:
    """Seed generators as upstream does before each sample: with the same number.

    Its ``torch.manual_seed`` formats the stack for each kind of accelerator: most of the time.
    """
    torch.default_generator.manual_seed(SEED)
    random.seed(SEED)
    np.random.seed(SEED)
