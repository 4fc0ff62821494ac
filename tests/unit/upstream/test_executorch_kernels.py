"""Protects the copy of the runtime's registry: a program that calls another kernel cannot load."""

import json
import subprocess
import sys

from pte_foundry.upstream import executorch_kernels

# In a process of its own: loading the quantized kernels changes the registry for good.
READ = """
import json, sys, torch
from executorch.extension.pybindings import _C
plain = set(_C._get_operator_names())
import executorch.kernels.quantized
quantized = set(_C._get_operator_names()) - plain
print(json.dumps({"kernels_optimized": sorted(plain), "kernels_quantized": sorted(quantized)}))
"""


def test_the_table_is_the_registry_of_the_installed_runtime():
    """If this fails after an upgrade: copy what differs into ``executorch_kernels``."""
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True)
    registry = json.loads(done.stdout.splitlines()[-1])
    expected = {name: framework for framework, names in registry.items() for name in names}
    ours = executorch_kernels.kernels()
    assert ours == expected, sorted(ours.items() ^ expected.items())


def test_the_framework_of_a_kernel():
    assert executorch_kernels.framework("aten::add.out") == "kernels_optimized"
    assert executorch_kernels.framework("executorch_prim::et_view.default") == "kernels_optimized"
    quantize = "quantized_decomposed::quantize_per_tensor.out"
    assert executorch_kernels.framework(quantize) == "kernels_quantized"
    for missing in ("aten::add", "aten::_adaptive_avg_pool3d.out", "aten::sort.values", ""):
        assert executorch_kernels.framework(missing) is None
