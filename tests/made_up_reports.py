"""Made-up validation and divergence reports, in the shape that a real run writes."""

import hashlib

from pte_foundry.validate.divergence_schema import DivergenceReport
from pte_foundry.validate.metrics_schema import COMMON_METRICS
from pte_foundry.validate.schema import ValidationReport

RECIPES = {
    # recipe: (size relative to fp32, SQNR in dB, scheme, operating systems)
    "fp32": (1.0, 118.4, "none", ("ios16", "ios17")),
    "fp16": (0.5, 62.7, "none", ("ios16", "ios17", "ios18")),
    "int8_static": (0.26, 24.1, "int8 activations and weights", ("ios17", "ios18")),
    "int8_weight_only": (0.27, 38.9, "int8 weights", ("ios17", "ios18")),
    "int8_per_axis": (0.26, 39.2, "int8 weights", ("ios16", "ios17", "ios18")),
    "int4_group32": (0.16, 22.8, "int4 weights", ("ios18",)),
    "int4_per_axis": (0.14, 13.9, "int4 weights", ("ios18",)),
    "lut3_group16": (0.115, 16.3, "codebook", ("ios18",)),
    "lut4": (0.145, 18.8, "codebook", ("ios18",)),
    "lut1": (0.06, 1.2, "codebook", ("ios18",)),
}
MODELS = {
    # model: (bytes in fp32, dB that it gains or loses when compressed, task metrics)
    "digits_cnn": (151_000, 6.0, {"top1": 0.9833, "top1_change": -0.0028}),
    "mobilenet_v2": (14_182_000, -4.0, {"top5_agreement": 0.97}),
    "minilm": (90_900_000, 2.0, {"ranking_agreement": 0.991}),
    "smollm2": (538_000_000, 0.0, {"perplexity": 17.8, "perplexity_change": 0.41}),
}


def report(model: str, recipe: str, target: str, device: str = "host") -> ValidationReport:
    """Returns one validation report. An unknown model or recipe gets the values of a known one."""
    fp32_bytes, ease, task = MODELS.get(model, MODELS["digits_cnn"])
    factor, decibel, scheme, _ = RECIPES.get(recipe, RECIPES["fp16"])
    size = int(fp32_bytes * factor) + 9_200 + 16 * len(target)
    sqnr = round(decibel + ease * (factor < 0.4), 2)
    gate = {"metric": "sqnr_db", "limit": ">= 15", "value": sqnr, "passed": sqnr >= 15}
    # Missed gates of lut1 only warn.
    gate["on_fail"] = "warn" if recipe == "lut1" else "fail"
    near = {"sqnr_db": sqnr, "cosine": 1 - 10 ** (-sqnr / 10), "max_abs_error": 10 ** (-sqnr / 20)}
    near["top1_agreement"] = round(1 - 0.5 * 10 ** (-sqnr / 20), 4)
    worst = {"sample": 17, "sqnr_db": sqnr - 6.4, "cosine": near["cosine"] - 0.003}
    quantized = scheme != "none"
    near["equal_fraction"] = None
    exact = {"sqnr_db": 200.0, "cosine": 1.0, "max_abs_error": 0.0, "top1_agreement": 1.0}
    quantization = {**near, "worst": worst} if quantized else exact
    lowering = {**near, "sqnr_db": 61.5, "cosine": 0.9999993, "max_abs_error": 0.0021}
    return {
        "build": {"model": model, "recipe": recipe, "target": target},
        "scheme": scheme,
        "target_details": {
            "minimum_os": target.split("_")[0].replace("ios", "iOS"),
            "compute_precision": "float32" if recipe == "fp32" else "float16",
            "compute_units": "cpu_and_ne" if target.endswith("_ne") else "all",
        },
        "artifact": {
            "path": f"results/pte/{model}/{recipe}/{target}.pte",
            "sha256": hashlib.sha256(f"{model}/{recipe}/{target}".encode()).hexdigest(),
            "bytes": size,
            "specification_version": 9,
            "delegated_fraction": 1.0,
            "ops": {"conv": 52, "constexpr_lut_to_dense": 53, "relu6": 35, "add": 10, "linear": 1},
            "states": [],
            "weight_bytes": {"int8" if quantized else "float16": size - 9_900, "float32": 600},
        },
        "device": {
            "name": device,
            "kind": "interpreter" if device == "host" else "ssh",
            "engine": "mil-reference" if device == "host" else "executorch-runtime",
            "host": "linux-x86_64" if device == "host" else "macos-arm64",
        },
        "samples": 64,
        "metrics": {**near, "worst": worst, **task},
        "outputs": [output("output_0", near | {"worst": worst})],
        "stages": {"quantization": quantization, "lowering": lowering},
        "hazards": [
            {
                "op": "softmax",
                "torch_source": "aten.softmax.int @ layers.3.attention",
                "kind": "fp16_overflow",
                "count": 3,
            }
        ]
        if recipe == "int4_per_axis"
        else [],
        "known_issues": [
            {
                "op": "scaled_dot_product_attention",
                "torch_source": "aten.scaled_dot_product_attention.default @ layers.3.attention",
                "unit": "gpu",
                "os": "iOS 18 and later",
                "effect": "wrong",
                "source": "CT #2650 (2026-02-12)",
                "condition": "fused attention with a batch of 10 or more",
                "count": 2,
            }
        ]
        if recipe == "int4_per_axis"
        else [],
        "latency_ms": {"median": 4.82, "p90": 5.31, "runs": 20} if device != "host" else None,
        "gates": [gate],
        "status": "fail" if not gate["passed"] and gate["on_fail"] == "fail" else "pass",
    }


def output(name: str, metrics: dict, dtype: str = "float32") -> dict:
    """Returns the metrics of one output, lost in lowering alone."""
    kept = ("sqnr_db", "cosine", "max_abs_error", "equal_fraction", "top1_agreement", "worst")
    made = {key: metrics.get(key) for key in kept if key != "worst" or "worst" in metrics}
    loss = {key: made[key] for key in ("sqnr_db", "equal_fraction")}
    exact = (200.0, None) if dtype == "float32" else (None, 1.0)
    before = dict(zip(("sqnr_db", "equal_fraction"), exact, strict=True))
    stages = {"quantization": before, "lowering": loss}
    return {"name": name, "dtype": dtype, "shape": [1, 10], **made, "stages": stages}


def detector() -> ValidationReport:
    """Returns the report of a build with a good, a lost and an integer output."""
    made = report("detector", "fp16", "ios18")
    lost = {"sqnr_db": 0.0, "cosine": 0.0, "max_abs_error": 0.98}
    zeros = {**lost, "worst": {"sample": 3, "sqnr_db": 0.0, "cosine": 0.0}}
    classes = {"equal_fraction": 0.5, "max_abs_error": 7}
    made["outputs"] = [
        output("boxes", made["metrics"]),
        output("scores", zeros),
        output("classes", classes, "int64"),
    ]
    made["metrics"] |= {**lost, "equal_fraction": 0.5, "worst_output": "scores"}
    gate = {"metric": "sqnr_db", "limit": ">= 45", "value": 0.0, "passed": False}
    made["gates"] = [gate | {"output": "scores", "on_fail": "fail"}]
    made["hazards"] = [
        {
            "op": "output",
            "torch_source": None,
            "kind": "output is all zeros",
            "count": 64,
            "output": "scores",
        }
    ]
    made["known_issues"] = report("detector", "int4_per_axis", "ios18")["known_issues"]
    return made | {"status": "fail"}


def unmeasured() -> ValidationReport:
    """Returns the report of a build whose artifact could not be executed."""
    made = report("detector", "lut4", "ios18")
    made["metrics"] = dict.fromkeys([*COMMON_METRICS, "top1", "top1_change"])
    made["stages"]["lowering"] = made["metrics"]
    made["artifact"] |= {"specification_version": None, "delegated_fraction": None, "ops": {}}
    made["outputs"], made["gates"] = [], []
    message = "instruction 3 of 'forward', aten::nonzero.out: no kernel\nand more"
    log = "logs/validation/detector/lut4/ios18/host.log"
    made["error"] = {"stage": "run", "message": message, "log": log}
    return made | {"status": "fail"}


def reports() -> dict[str, ValidationReport]:
    """Returns the reports of 68 builds, one of them on a second device, by path."""
    made = [
        report(model, recipe, target)
        for model in MODELS
        for recipe, (*_, systems) in RECIPES.items()
        for target in systems
    ]
    made.append(report("mobilenet_v2", "fp16", "ios18", device="mac"))
    return {path_of(one): one for one in made}


def path_of(one: ValidationReport) -> str:
    """Returns the path at which a report is written."""
    build = one["build"]
    folder = f"results/validation/{build['model']}/{build['recipe']}/{build['target']}"
    return f"{folder}/{one['device']['name']}.json"


def divergence(layers: int = 70) -> DivergenceReport:
    """Returns a divergence report: one layer overflows, every fifth is exact, others are not."""
    made = [
        {
            "layer": [f"aten.linear.default @ encoder.{position}"],
            "position": position,
            "op": "linear",
            "value": f"linear_{position}_cast_fp16",
            "introduced_sqnr_db": 200.0 if position % 5 == 0 else 60 - position % 7,
            "accumulated_sqnr_db": 60 - 0.3 * position,
            "reference": {"low": -1.5, "high": 2.0, "non_finite": 0},
            "program": {"low": -1.25, "high": 1.75, "non_finite": 0},
            "hazards": [],
        }
        for position in range(layers)
    ]
    made[3] |= {"introduced_sqnr_db": None, "accumulated_sqnr_db": None}
    made[3] |= {"hazards": ["fp16_overflow"]}
    made[3]["program"] |= {"non_finite": 7}
    made.sort(key=lambda layer: -1 if (db := layer["introduced_sqnr_db"]) is None else db)
    return {"layers": made, "uncovered": [], "samples": 4}
