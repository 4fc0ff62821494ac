"""Protects the definition of the validation report: what is written and read conforms to it."""

import subprocess
import sys

import pytest
from pte_foundry.errors import InputError
from pte_foundry.validate.check import checked, problems
from pte_foundry.validate.metrics_schema import COMMON_METRICS

from tests.made_up_reports import report, reports


def test_a_report_that_conforms_is_returned_as_it_is():
    made = report("minilm", "lut4", "ios18")
    assert checked(made) is made
    assert [problem for one in reports().values() for problem in problems(one)] == []


def test_all_problems_in_one_error():
    made = report("minilm", "lut4", "ios18")
    made["hazards"] = [{"op": "mul", "kind": "huge", "count": 1}]
    del made["device"]["host"], made["status"]
    with pytest.raises(InputError) as error:
        checked(made)
    assert "lacks status, device.host, hazards[0].torch_source" in str(error.value)
    assert "hazards[0].kind is \"huge\", expected 'nan'" in str(error.value)


def test_numbers_are_not_converted():
    """A string or a bool is no number, and a whole number stays one: the JSON is unchanged."""
    made = report("minilm", "lut4", "ios18")
    made["metrics"]["perplexity"] = 17
    assert type(checked(made)["metrics"]["perplexity"]) is int
    for value in ("17", True):
        made["metrics"]["perplexity"] = value
        assert len(problems(made)) == 1


def test_common_metrics_are_those_that_compare_measures():
    import torch
    from pte_foundry.validate.metrics import compare

    sample = [(torch.ones(1, 3),)]
    assert set(compare(sample, sample).metrics) == set(COMMON_METRICS)


def test_an_error_has_a_stage_a_message_and_a_log():
    made = report("minilm", "lut4", "ios18") | {"error": {"stage": "run", "message": "no kernel"}}
    assert problems(made) == ["lacks error.log"]
    made["error"]["log"] = "logs/a.log"
    assert problems(made) == []


def test_the_schema_and_the_gates_do_not_import_torch():
    modules = "pte_foundry.validate.check, pte_foundry.validate.gates"
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
