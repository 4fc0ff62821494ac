"""Protects static quantization of several methods: calibrated in conversations, weights shared."""

from functools import partial

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.models.export import export_all
from pte_foundry.models.play import play_all
from pte_foundry.quantize import pt2e
from pte_foundry.quantize.calibration import calibrate_played

from tests.unit.models.test_methods import DECODER, load

SETTINGS = {"global_config": {"quantization_scheme": "symmetric"}}


@pytest.fixture(scope="module")
def decoder():
    model = load(DECODER)
    return model, export_all(model, model.build())


def test_every_method_is_calibrated_by_what_it_gets_in_a_conversation(decoder):
    model, exported = decoder
    play = partial(play_all, model, "calibration", None)
    found = calibrate_played(exported, SETTINGS, play)
    assert found.keys() == {"prefill", "decode"}
    assert found["prefill"].keys() == found["decode"].keys() != set()
    assert found["prefill"]["embedding"] != found["decode"]["embedding"], "other tokens"
    assert found == calibrate_played(exported, SETTINGS, play), "states are reset"

    converted = {
        method: pt2e.convert(program, SETTINGS, found[method], model.example_inputs(method))
        for method, program in exported.items()
    }
    weights = [
        {name: value for name, value in program.state_dict.items() if value.dtype == torch.int8}
        for program in converted.values()
    ]
    assert len(weights[0]) == 3
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), "one weight in the artifact"


def test_a_method_that_no_sample_calls_is_refused(decoder):
    model, exported = decoder
    method = "prefill"

    def play(run, reset):
        reset()
        run(method, model.example_inputs(method))

    with pytest.raises(ModelError, match="no calibration sample calls decode"):
        calibrate_played(exported, SETTINGS, play)
