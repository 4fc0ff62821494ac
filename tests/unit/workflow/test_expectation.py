"""Protects what is expected of jobs: their own earlier time, else that of the most similar ones."""

import pytest
from pte_foundry.workflow.expectation import AROUND, Expectation, read
from pte_foundry.workflow.stages import STAGES

EARLIER = {
    "benchmarks/lower/minilm/fp16/ios18-float16-a0.tsv": 3.0,
    "benchmarks/lower/minilm/lut4/ios18-float16-a0.tsv": 5.0,
    "benchmarks/lower/digits_cnn/fp16/ios18-float16-a0.tsv": 1.0,
    "benchmarks/export/minilm.tsv": 9.0,
}


@pytest.mark.parametrize(
    ("rule", "benchmark", "seconds"),
    [
        ("lower", "benchmarks/lower/minilm/fp16/ios18-float16-a0.tsv", 3.0),
        ("lower", "benchmarks/lower/minilm/lut6/ios18-float16-a0.tsv", 4.0),
        ("lower", "benchmarks/lower/vit/lut6/ios18-float16-a0.tsv", 3.0),
        ("export", "benchmarks/export/minilm.tsv", 9.0),
        ("export", "benchmarks/export/vit.tsv", 9.0),
        (
            "validate",
            "benchmarks/validation/minilm/fp16/ios18/host.tsv",
            STAGES["validate"].seconds,
        ),
        ("foundry_validate", "benchmarks/validation/a/b/c/host.tsv", STAGES["validate"].seconds),
        ("plan", None, STAGES["plan"].seconds),
        ("rule_of_another", None, 0.5),
        ("rule_of_another", "elsewhere.tsv", 0.5),
    ],
)
def test_the_most_similar_earlier_jobs_decide(rule, benchmark, seconds):
    assert Expectation(EARLIER).seconds(rule, benchmark) == pytest.approx(AROUND + seconds)


def test_a_module_with_a_prefix_has_its_own_benchmarks():
    earlier = {"foundry/benchmarks/export/minilm.tsv": 9.0}
    seconds = Expectation(earlier).seconds
    assert seconds("foundry_export", "foundry/benchmarks/export/vit.tsv") == AROUND + 9.0


def test_damaged_benchmarks_are_left_out(tmp_path):
    texts = {
        "good": "s\tmax_rss\n2.50\t9.0\n",
        "snakemakes_own": "s\th:m:s\tmax_rss\n7.0\t0:00:07\t1.0\n",
        "empty": "",
        "header": "s\tmax_rss\n",
        "words": "s\nfast\n",
        "short": "s\tmax_rss\n1.0\n",
        "other": "x\n1\n",
        "negative": "s\n-3\n",
        "not_finite": "s\nnan\n",
    }
    for name, text in texts.items():
        (tmp_path / "export").mkdir(exist_ok=True)
        (tmp_path / "export" / f"{name}.tsv").write_text(text)
    (tmp_path / "export" / "binary.tsv").write_bytes(b"\xff\xfe\n\xff\n")
    found = {path.rpartition("/")[2]: seconds for path, seconds in read(tmp_path).items()}
    assert found == {"good.tsv": 2.5, "snakemakes_own.tsv": 7.0}


def test_without_an_earlier_run_there_is_nothing_to_read(tmp_path):
    assert read(tmp_path / "benchmarks") == {}
