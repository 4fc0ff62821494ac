"""The protobuf modules load without coremltools and live with it in one process, in any order."""

import subprocess
import sys

import pytest

LOAD = "from pte_foundry.upstream.coremltools_protobuf import Model_pb2 as ours"
ALONE = "assert 'coremltools' not in sys.modules"
UPSTREAM = "from coremltools.proto import Model_pb2 as upstream"
AGREE = "assert ours.Model is upstream.Model; ours.Model().mlProgram.functions['f'].opset = 'x'"


def run(*lines: str) -> None:
    subprocess.run([sys.executable, "-c", "\n".join(["import sys", *lines])], check=True)


@pytest.mark.parametrize("order", ["ours first", "coremltools first"])
def test_both_orders_give_the_same_message_classes(order):
    if order == "ours first":
        run(LOAD, ALONE, UPSTREAM, AGREE)
    else:
        run(UPSTREAM, LOAD, AGREE)
