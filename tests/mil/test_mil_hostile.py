"""Protects whoever runs an ``.mlpackage`` of somebody else: limits, and one typed error.

The programs are what no converter writes: loops without end, sizes beyond what they declare, files
that are no files.
"""

import os
import resource
import time
from functools import partial

import numpy as np
import pytest
from pte_foundry.errors import LimitError, ProgramError
from pte_foundry.limits import Limits
from pte_foundry.mil import Program
from pte_foundry.mil.inspect_model import describe_model, describe_package

from tests.fuzz.mil_programs import MilProgram, ints, number, weight_file

LIMITS = Limits(memory=100 << 20, steps=2000, seconds=60)
X = np.ones(2, np.float32)
BIG = 2**31 - 1


def run(made: MilProgram, limits: Limits = LIMITS) -> dict:
    program = Program.from_parts(made.bytes(), made.weights, limits)
    return program.run({i.name: X for i in program.functions["main"].inputs})


def one(kind: str, declared: list | None = None, /, **inputs) -> MilProgram:
    """A program of one operation; its result's rank is unknown unless a shape is declared."""
    made = MilProgram().input("x")
    made.op(kind, [("y", "FLOAT32", declared)], **inputs)
    return made.end("y")


def image(size: int = 2) -> tuple:
    return "FLOAT32", [1.0] * size**2, (1, 1, size, size)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# Loops


def test_an_endless_loop_is_stopped_by_its_instructions():
    made = MilProgram().input("x").loop("FLOAT32", [2], "add", x="b", y=number(1.0))
    with pytest.raises(LimitError, match=r"'next' failed: .* within 2000 instructions"):
        run(made)


def test_an_endless_loop_is_stopped_by_the_clock():
    made = MilProgram().input("x").loop("FLOAT32", [2], "add", x="b", y=number(1.0))
    began = time.monotonic()
    with pytest.raises(LimitError, match=r"within 0.2 seconds"):
        run(made, Limits(seconds=0.2, steps=10**9))
    assert time.monotonic() - began < 10


def test_an_endless_loop_without_a_body_is_stopped():
    made = MilProgram().input("x").loop("FLOAT32", [2], "identity", x="b")
    with pytest.raises(LimitError):
        run(made)


def test_a_loop_that_doubles_its_value_is_stopped_by_memory():
    no = "BOOL", [False], ()
    made = MilProgram().input("x")
    made.loop("FLOAT32", [None], "concat", values=["b", "b"], axis=number(0), interleave=no)
    before = peak()
    with pytest.raises(LimitError, match=r"concat 'next' failed: .* of memory"):
        run(made)
    assert peak() - before < 4 * LIMITS.memory


def test_many_values_below_the_limit_add_up():
    made = MilProgram().input("x")
    names = [f"v{k}" for k in range(20)]
    for name in names:
        made.op("fill", [(name, "FLOAT32", None)], shape=ints(5 * 10**6), value=number(1.0))
    made.op("concat", [("y", "FLOAT32", None)], values=names, axis=number(0))
    with pytest.raises(LimitError, match="of memory"):
        run(made.end("y"))


# Sizes: what is asked for is far more than the limit, or than the program declares.

LARGE = {
    "fill": partial(one, "fill", shape=ints(10**6, 10**6), value=number(1.0)),
    "tile": partial(one, "tile", x="x", reps=ints(BIG)),
    "pad": partial(one, "pad", x="x", pad=ints(BIG, BIG), mode=("STRING", ["constant"], ())),
    "replicate": partial(one, "pad", x="x", pad=ints(BIG, 0), mode=("STRING", ["replicate"], ())),
    "range": partial(one, "range_1d", start=number(0.0), end=number(2e9), step=number(1.0)),
    "one_hot": partial(one, "one_hot", indices=ints(0, 1), one_hot_vector_size=number(BIG)),
    "upsample": partial(
        one, "upsample_nearest_neighbor", x=image(),
        scale_factor_height=number(60000.0), scale_factor_width=number(60000.0),
    ),
    "resize": partial(
        one, "resize_bilinear", x=image(),
        target_size_height=number(BIG), target_size_width=number(BIG),
    ),
    "random": partial(one, "random_uniform", shape=ints(BIG), low=number(0.0), high=number(1.0)),
    "categorical": partial(one, "random_categorical", x="x", size=number(BIG)),
    "convolution": partial(
        one, "conv", x=image(), weight=image(1), pad_type=("STRING", ["custom"], ()),
        pad=ints(BIG, BIG, BIG, BIG),
    ),
    "transposed": partial(
        one, "conv_transpose", x=image(), weight=image(1), strides=ints(10**6, 10**6),
    ),
    "pool": partial(
        one, "max_pool", x=image(), kernel_sizes=ints(BIG, BIG), strides=ints(1, 1),
        pad_type=("STRING", ["custom"], ()), pad=ints(*[2**30] * 4), 
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_a_large_value_is_refused_before_it_is_made(make):
    before = peak()
    with pytest.raises(ProgramError):
        run(make())
    assert peak() - before < 64 << 20


@pytest.mark.parametrize(
    "make",
    [
        partial(one, "fill", [2], shape=ints(8 * 10**7), value=number(1.0)),
        partial(one, "tile", [2], x="x", reps=ints(4 * 10**7)),
        partial(one, "pad", [2], x="x", pad=ints(8 * 10**7, 0), mode=("STRING", ["constant"], ())),
        partial(one, "one_hot", [2, 2], indices=ints(0, 1), one_hot_vector_size=number(10**8)),
    ],
)
def test_a_value_larger_than_declared_is_refused_before_it_is_made(make):
    """The limit would allow it, the declared type does not."""
    before = peak()
    with pytest.raises(LimitError, match="far more than the program declares"):
        run(make(), Limits(memory=8 << 30))
    assert peak() - before < 64 << 20


def test_by_default_the_limit_is_the_memory_that_is_free():
    with pytest.raises(LimitError, match="of memory"):
        run(one("fill", shape=ints(10**6, 10**6), value=number(1.0)), Limits())


def test_products_of_inputs_are_limited():
    made = MilProgram().input("x")
    made.op("fill", [("c", "FLOAT32", None)], shape=ints(10**5, 1), value=number(1.0))
    made.op("fill", [("r", "FLOAT32", None)], shape=ints(1, 10**5), value=number(1.0))
    made.op("add", [("y", "FLOAT32", None)], x="c", y="r")
    with pytest.raises(LimitError, match="add 'y' failed"):
        run(made.end("y"))


def test_a_large_state_is_refused():
    made = MilProgram().state("s", "FLOAT16", [2**31])
    made.op("read_state", [("y", "FLOAT16", [2**31])], input="s")
    program = Program.from_parts(made.end("y").bytes(), None, LIMITS)
    with pytest.raises(LimitError):
        program.make_state()


def test_packed_weights_that_unpack_to_too_much_are_refused():
    made = MilProgram().input("x")
    made.blob("i", "UINT1", [2**30])
    made.const("lut", "FLOAT32", [0.0, 1.0], (1, 2, 1))
    made.op("constexpr_lut_to_dense", [("d", "FLOAT32", [2**30])], indices="i", lut="lut")
    made.op("add", [("y", "FLOAT32", None)], x="x", y="d")
    made.weights = weight_file((9, 2**27, 128), data=bytes(2**27))
    with pytest.raises(LimitError):
        run(made.end("y"))


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0, 2**63], [2**62, 0]])
def test_a_weight_of_no_elements_and_impossible_size(shape):
    made = MilProgram().input("x")
    made.blob("w", "FLOAT32", shape)
    made.op("add", [("y", "FLOAT32", None)], x="x", y="w")
    made.weights = weight_file((2, 0, 128))
    with pytest.raises(ProgramError, match="exceeds"):
        run(made.end("y"))


def test_two_inputs_of_one_name_are_refused():
    made = MilProgram().input("x").input("x")
    made.op("relu", [("y", "FLOAT32", [2])], x="x")
    with pytest.raises(ProgramError, match="same name"):
        run(made.end("y"))


def test_the_smallest_integer_divided_by_minus_one_does_not_end_the_process():
    made = MilProgram().input("x")
    made.op("real_div", [("y", "INT32", [1])], x=ints(-(2**31)), y=ints(-1))
    assert run(made.end("y"))["y"].tolist() == [-(2**31)]


# Loading takes time in proportion to the program.


def cpu(work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def chain(count: int) -> bytes:
    made = MilProgram().input("x")
    for k in range(count):
        made.op("relu", [(f"v{k}", "FLOAT32", [2])], x=f"v{k - 1}" if k else "x")
    return made.end(*(f"v{k}" for k in range(0, count, 2))).bytes()


def branches(count: int) -> bytes:
    """Nested blocks beside each other, each of which sees all values before it."""
    made = MilProgram().input("x")
    for k in range(count):
        condition = made.op("cond", [(f"v{k}", "FLOAT32", [2])], pred=("BOOL", [True], ()))
        for _ in range(2):
            made.body(condition, []).outputs.append(f"v{k - 1}" if k else "x")
    return made.end("v0").bytes()


@pytest.mark.parametrize("make", [chain, branches])
@pytest.mark.parametrize("read", ["load", "inspect"])
def test_reading_is_linear_in_the_size_of_the_program(make, read):
    from pte_foundry.formats.mlpackage import parse_model

    def handle(data: bytes) -> None:
        if read == "load":
            Program.from_parts(data, None)
        else:
            describe_model(parse_model(data))

    handle(make(10))
    small, large = make(1000), make(8000)
    assert cpu(partial(handle, large)) < 20 * cpu(partial(handle, small)) + 0.3


# Files


@pytest.fixture
def package(tmp_path):
    made = MilProgram().input("x")
    made.blob("w", "FLOAT32", [2])
    made.op("add", [("y", "FLOAT32", [2])], x="x", y="w")
    made.weights = weight_file((2, 8, 128))
    return made.end("y").save(tmp_path / "a.mlpackage")


INSIDE = "Data/com.apple.CoreML"
FILES = ["Manifest.json", f"{INSIDE}/model.mlmodel", f"{INSIDE}/weights/weight.bin"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_files_that_are_no_files_are_refused_at_once(package, file, kind):
    path = package / file
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
    with pytest.raises(ProgramError):
        Program.load(package, LIMITS)


@pytest.mark.parametrize("file", FILES)
def test_a_sparse_file_of_a_terabyte_is_refused(package, file):
    os.truncate(package / file, 1 << 40)
    if file.endswith("weight.bin"):  # mapped: only what is declared is read
        assert Program.load(package, LIMITS).run({"x": X})["y"].tolist() == [1, 1]
        return
    for read in (Program.load, describe_package):
        with pytest.raises(ProgramError, match="1099511627776 bytes, expected at most"):
            read(package)


def test_links_to_files_are_followed(package, tmp_path):
    """Caches of downloads are made of them."""
    for number_, file in enumerate(FILES):
        (package / file).rename(tmp_path / str(number_))
        (package / file).symlink_to(tmp_path / str(number_))
    assert Program.load(package).run({"x": X})["y"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "\x1b]0;x\x07", "a\0b"])
def test_the_manifest_cannot_lead_elsewhere(package, name):
    import json

    entries = {"itemInfoEntries": {"R": {"path": name}}, "rootModelIdentifier": "R"}
    (package / "Manifest.json").write_text(json.dumps(entries))
    with pytest.raises(ProgramError) as caught:
        Program.load(package)
    assert str(caught.value).isprintable()
