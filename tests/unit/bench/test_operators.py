"""Protects the table of operators: complete, true to the code, and with nothing silently wrong.

A sample of the programs is run here; ``make operators`` runs all of them and writes the table.
"""

import json
import os
import signal
from collections import Counter
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from pte_foundry.bench.operators import __main__ as command
from pte_foundry.bench.operators import patterns, program, sweep, table
from pte_foundry.bench.operators.patterns import Pattern
from pte_foundry.bench.operators.program import Result
from pte_foundry.bench.operators.sweep import Both
from pte_foundry.lock import lock_file, locked_versions
from pte_foundry.lowering import rewrites
from pte_foundry.upstream import torch_decompositions, torch_operators

X = torch.tensor([1.0, -2, 3])


@pytest.fixture(scope="module")
def found() -> dict:
    return patterns.all_patterns()


@pytest.fixture(scope="module")
def committed() -> dict:
    return table.read(command.TABLE.read_text(encoding="utf-8"))


def test_every_registered_operator_has_a_pattern_or_a_reason(found):
    """If this fails after an upgrade: add calls to bench/operators/calls/."""
    covered = {operator for operator, _ in found}
    assert not set(patterns.registered()) - covered - patterns.NO_PROGRAM.keys()
    assert not covered & patterns.NO_PROGRAM.keys()
    assert covered <= set(patterns.registered())


def test_the_table_is_complete(found, committed):
    """If this fails: `make operators`."""
    keys = [(*key, precision) for key in found for precision in table.PRECISIONS]
    expected = table.expected(committed, keys)
    assert not [key for key, outcome in expected.items() if outcome is None]
    listed = {(operator, label) for operator, label, _ in committed}
    named = {key for key in listed if not table.counted(key[1])}
    assert named <= found.keys()
    counts = Counter(operator for operator, _ in named)
    for operator, label in listed - named:
        counts[operator] += table.counted(label)
    assert counts == Counter(operator for operator, _ in found)


def test_the_table_stands_for_the_locked_versions():
    """If this fails after an upgrade: `make operators`, and read what has changed."""
    text, locked = command.TABLE.read_text(encoding="utf-8"), locked_versions(lock_file())
    versions = ", ".join(f"{name} {locked[name]}" for name in command.LIBRARIES)
    assert f"Versions: {versions}\n" in text


def test_nothing_in_the_table_is_silently_wrong(committed):
    assert not [key for key, outcome in committed.items() if outcome in table.BAD]
    known = {"right", "repaired", "outside", "refused", "differs", "no program"}
    assert set(committed.values()) <= known


def test_every_rewrite_repairs_something_in_the_table(committed):
    """If this fails, upstream may have fixed the operator: remove its rewrite."""
    rewritten = {str(name).split(".")[1] for name in rewrites.TABLE} & set(patterns.registered())
    repaired = {key[0] for key, outcome in committed.items() if outcome == "repaired"}
    assert rewritten - repaired == UNSEEN


UNSEEN = {"adaptive_avg_pool1d", "adaptive_max_pool1d", "log1p"}
"""Operators whose rewrites only matter to dynamic shapes, or to numbers too small for float16."""


def test_a_sample_of_the_table_is_true(found, committed):
    keys = [(*key, precision) for key in found for precision in table.PRECISIONS]
    repaired = [key for key in keys if committed.get(key) == "repaired"]
    others = [key for key in keys if key not in repaired]
    sample = repaired[:: len(repaired) // 12] + others[:: len(others) // 12]
    torch.set_num_threads(1)
    with torch_decompositions.collected_once():
        program.run(found[sample[0][:2]], "float16")
        jobs = {key: partial(program.run, found[key[:2]], key[2]) for key in sample}
        results = dict(sweep.in_forks(jobs, os.cpu_count() or 1))
    # Whether a right program is repaired is known from upstream, which the whole sweep runs.
    expected = {
        key: {"repaired": {"right", "outside"}}.get(outcome, {outcome})
        for key, outcome in table.expected(committed, sample).items()
    }
    verdicts = {key: sweep.verdict(key, Both(result, None)) for key, result in results.items()}
    assert not {k: (v, expected[k]) for k, v in verdicts.items() if v.outcome not in expected[k]}


def test_a_pattern_is_known_by_its_inputs_and_its_code(found):
    digests = {one.digest() for one in found.values()}
    assert len(digests) == len(found)
    assert pattern(lambda x: x + 1, X).digest() == pattern(lambda x: x + 1, X).digest()
    others = [
        pattern(lambda x: x + 2, X),
        pattern(lambda x: x - 1, X),
        pattern(lambda x: x + 1, X * 2),
        pattern(lambda x: x + 1, X.double()),
        pattern(lambda x: x + (lambda: 1)(), X),
        pattern(torch.relu, X),
        pattern(torch.relu, X, random=True),
    ]
    assert len({one.digest() for one in (pattern(lambda x: x + 1, X), *others)}) == 8


def pattern(function, *inputs, random=False) -> Pattern:
    return Pattern("an operator", "", function, inputs, random)


def test_a_wrong_program_is_wrong(monkeypatch):
    relu = torch_operators.operator("aten.relu.default")
    wrong = {relu: lambda x: torch.ops.aten.relu6.default(x)}
    monkeypatch.setattr(rewrites, "TABLE", wrong)
    assert program.run(pattern(torch.relu, X), "float32").outcome == "right"
    result = program.run(pattern(torch.relu, X * 4), "float32")
    assert result.outcome == "wrong"
    assert "error 6 of 12" in result.detail


def test_outcomes():
    assert program.run(pattern(torch.relu, X), "float16").outcome == "right"
    assert program.run(pattern(torch.asinh, X), "float16").detail == "aten::asinh"
    assert program.run(pattern(torch.asinh, X), "float16").outcome == "outside"
    refused = program.run(pattern(lambda x: torch.linalg.inv(x), torch.eye(2)), "float16")
    assert refused.outcome == "refused"
    assert "linalg_inv" in refused.detail
    unexportable = pattern(lambda x: x if x.sum() > 0 else -x, X)
    assert program.run(unexportable, "float16").outcome == "no program"
    seen = program.run(pattern(lambda x: x.clamp(-1, 1), X), "float16").seen
    assert seen == ["aten.clamp.default"]


@pytest.mark.parametrize(
    ("expected", "got", "why"),
    [
        (X, X[:2], "shape (2,), expected (3,)"),
        (X, X.double(), "torch.float64, expected torch.float32"),
        (X, X + torch.tensor([0, 0, 0.3]), "22 dB, error 0.3 of 3"),
        (X * 0, X * 0 + 1e-9, "-inf dB, error 1e-09 of 0"),
        (X / 0, X / 0 * -1, "infinities or NaN differ"),
        (X, X * float("nan"), "infinities or NaN differ"),
        (X.int(), X.int() + torch.tensor([0, 1, 0], dtype=torch.int32), "33% of the values differ"),
        (X > 0, X > 5, "67% of the values differ"),
    ],
)
def test_differences(expected, got, why):
    assert program.difference((expected,), (got,), "float32") == why
    assert program.difference((X, expected), (X, got), "float32") == f"output 1: {why}"
    assert program.difference((expected,), (expected.clone(),), "float32") is None
    assert program.difference((expected,), (), "float32") == "0 outputs, expected 1"


def test_rounding_is_allowed_for_by_precision():
    off = X * 1.001  # 60 dB
    assert program.difference((X,), (off,), "float16") is None
    assert program.difference((X,), (off,), "float32").startswith("60 dB")
    assert program.difference((X,), (X + 9,), "float32", random=True) is None
    beyond, inside = torch.tensor([7e4, 1e-12]), torch.tensor([float("inf"), 0])
    assert program.difference((beyond,), (inside,), "float16") is None
    assert program.difference((beyond,), (inside,), "float32") is not None


def test_neither_a_crash_nor_a_hang_ends_a_sweep(monkeypatch):
    monkeypatch.setattr(sweep, "LIMIT", 0.5)
    jobs = {
        ("a", "crashes", ""): lambda: os.kill(os.getpid(), signal.SIGSEGV),
        ("b", "hangs", ""): signal.pause,
        ("c", "raises", ""): lambda: 1 / 0,
        ("d", "exits", ""): lambda: os._exit(3),
        ("e", "is right", ""): lambda: Result("right", "much " * 50_000, ["aten.relu.default"]),
    }
    found = {key[0]: result for key, result in sweep.in_forks(jobs, 2)}
    assert [found[name].outcome for name in "abcde"] == [
        "crashed",
        "hung",
        "crashed",
        "crashed",
        "right",
    ]
    assert found["a"].detail == "SIGSEGV"
    assert len(found["e"].detail) == 250_000
    assert found["e"].seen == ["aten.relu.default"]


def test_upstream_runs_if_it_is_of_interest(monkeypatch):
    outcomes = {False: Result("right", "", ["x"]), True: Result("wrong", "9 dB")}
    monkeypatch.setattr(program, "run", lambda *_, upstream=False: outcomes[upstream])
    ours, theirs = outcomes.values()
    assert sweep.both(pattern(torch.relu, X), "float16", None) == Both(ours, theirs)
    assert sweep.both(pattern(torch.relu, X), "float16", ours) == Both(ours, ours)
    outcomes[False] = Result("wrong")
    assert sweep.both(pattern(torch.relu, X), "float16", None) == Both(Result("wrong"), None)


def test_verdicts():
    key, right, wrong = ("add", "x", "float16"), Result("right", "", ["x"]), Result("wrong", "9 dB")
    repaired = Result("repaired", "upstream: wrong, 9 dB", ["x"])
    assert sweep.verdict(key, Both(right, wrong)) == repaired
    assert sweep.verdict(key, Both(Result("outside"), Result("refused"))).outcome == "repaired"
    assert sweep.verdict(key, Both(right, Result("outside"))) == right
    assert sweep.verdict(key, Both(right, None)) == right
    assert sweep.verdict(key, Both(wrong, right)) == wrong
    known = next(iter(sweep.KNOWN))
    assert sweep.verdict(known, Both(wrong, None)).outcome == "differs"
    assert sweep.verdict(known, Both(Result("refused"), None)).outcome == "refused"


def test_the_table_is_read_as_it_was_written():
    results = {
        ("add", "f32[2], _x|y_", "float32"): Result("right"),
        ("add", "f32[2], _x|y_", "float16"): Result("repaired", "upstream: wrong, <a> | *b*"),
        ("mul", "", "float32"): Result("right"),
        ("mul", "", "float16"): Result("right"),
        ("mul", "x", "float32"): Result("right"),
        ("mul", "x", "float16"): Result("right"),
        ("mul", "y", "float32"): Result("right"),
        ("mul", "y", "float16"): Result("differs", "why"),
        ("neg", "", "float32"): Result("right"),
        ("neg", "", "float16"): Result("right"),
        ("sub", "one only", "float16"): Result("refused", "ValueError: " + "long " * 90),
    }
    text = table.render(results, {"_check": "no result"}, {"torch": "2.13"})
    read = table.read(text)
    assert table.expected(read, results) == {k: r.outcome for k, r in results.items()}
    assert {("mul", "others: 2", "float16"), ("neg", "all 1", "float16")} <= read.keys()
    assert ("mul", "x", "float16") not in read
    assert "_check" not in {key[0] for key in read}
    assert table.expected(read, [("add", "another", "float16")]) == {
        ("add", "another", "float16"): None
    }
    assert "There is none." in text
    assert max(map(len, text.splitlines())) < 400
    wrong = results | {("mul", "x", "float16"): Result("wrong", "9 dB")}
    assert "There is none." not in table.render(wrong, {}, {})


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    ran = tmp_path / "ran"  # by forks

    def run(pattern, precision, upstream=False):
        with ran.open("a") as file:
            file.write(f"{pattern.label} {precision} {upstream}\n")
        return Result("right")

    def runs():
        lines = ran.read_text().splitlines()
        ran.unlink()
        return lines[2:]  # the first two are in the parent

    some = {(name, "x"): pattern(torch.relu, X) for name in ("acosh", "add", "mul", "neg")}
    monkeypatch.setattr(patterns, "all_patterns", lambda: some)
    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr(torch_decompositions, "collected_once", nullcontext)  # it takes seconds
    monkeypatch.setattr(command.command, "run", lambda _, step, **__: step() or 0)
    results = tmp_path / "operators.jsonl"
    arguments = ["--results", str(results), "--only", "acosh", "mul", "neg"]
    arguments += ["--processes", "1"]
    table_file = tmp_path / "OPERATORS.md"
    arguments += ["--table", str(table_file)]
    assert command.main(arguments) == 0
    lines = results.read_text().splitlines()
    assert len(runs()) == 2 * len(lines) == 12
    results.write_text("\n".join(lines[:-1]) + '\n{"code": "cut o')
    assert command.main(arguments) == 0
    assert len(runs()) == 2
    monkeypatch.setattr(command, "_digests", lambda: ("new code", json.loads(lines[0])["baseline"]))
    assert command.main(arguments) == 0
    ours = runs()
    assert len(ours) == len(lines) + 1  # upstream's outcome of the cut one is known again
    assert not table_file.exists()  # a part of the operators makes no table


def test_labels_name_what_differs_in_structure():
    label = patterns._label((torch.ones(2, 3), [1, 2.5]), {"dtype": torch.int32, "keepdim": True})
    assert label == "f32[2,3], (1, 2.5), dtype=int32, keepdim=True"
    assert patterns._label((torch.ones(2, 0),), {}) is None
    assert patterns._label((torch.ones(2, dtype=torch.complex64),), {}) is None
    assert patterns._structure("f32[2,3], 1, k=2.5e-3") == patterns._structure("f32[5,5], 7, k=1")
    assert patterns._structure("f32[2,3]") != patterns._structure("f32[2]")


def test_torchs_samples_become_patterns():
    infos = patterns.torch_operator_samples.by_operator()
    taken = list(patterns.of_torch("conv2d", infos["conv2d"]))
    assert 1 < len(taken) <= sum(patterns.SAMPLES.values())
    assert all(len(one.inputs) == 1 for one in taken)  # weights are constants
    (made, *_) = patterns.of_torch("zeros", infos["zeros"])
    assert torch.equal(made.call(torch.ones_like(made.inputs[0])), torch.ones_like(made.inputs[0]))
