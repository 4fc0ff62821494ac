"""The stages of the workflow: one entry each, read by the rules, the digests and the scheduler.

To add a stage: a command ``steps/<stage>.py``, a rule of the same name, and an entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pte_foundry.workflow import slices


class Need(NamedTuple):
    """Memory in MB: ``base`` for libraries and samples, plus ``factor`` times a size in MB.

    The size is that of the weights in fp32, for ``pte`` that of the lowered program. Recipes
    differ by up to a factor of two: the request is above the hungriest and below twice the most
    frugal one. Peaks are those of getrusage(2), as in ``benchmarks/``, on x86-64 Linux with models
    of 0.3, 15, 86, 626 and 4732 MB of weights; ``make bench`` compares them with what is requested
    here, and ``make bench-large`` measures the largest.
    """

    base: float
    factor: float = 0.0


FLOOR = 500
"""Below this many MB the libraries decide, and what a model adds is noise."""

# Functions of a model module that several stages call.
_SAMPLES = ("example_inputs", "methods", "dynamic_shapes")
_BUILD = ("build", *_SAMPLES, "output_names")


@dataclass(frozen=True)
class Stage:
    """What the workflow knows about a stage.

    Attributes:
        slice: returns what the stage reads of the config, given the config and wildcards by name.
            What a slice does not contain cannot cause the stage to run again.
        memory: by case; ``""`` is the usual one.
        minutes: run time to request from a scheduler for a small model.
        seconds: run time to expect of a small model, until an earlier run tells.
        feeds_bytes: whether its code can change an artifact.
        functions: functions of the model module that it calls; only their options reach it.
        priority: stages with a higher one start first. Without priorities Snakemake may start the
            longest way to an artifact last, and then all cores but one wait for it.
    """

    slice: Callable[..., Mapping[str, Any]]
    memory: Mapping[str, Need]
    minutes: int
    feeds_bytes: bool = False
    functions: tuple[str, ...] = ()
    priority: int = 0
    seconds: float = 0.5


STAGES: dict[str, Stage] = {
    "model": Stage(slices.model, {"": Need(100)}, minutes=10),
    "fetch": Stage(slices.fetch, {"": Need(100)}, minutes=30),
    "train": Stage(
        slices.train,
        {"": Need(FLOOR, 1.5)},
        minutes=60,
        seconds=10,
        feeds_bytes=True,
        priority=4,
    ),
    "export": Stage(
        slices.nothing,
        {"": Need(500, 2.4)},
        minutes=10,
        seconds=2,
        feeds_bytes=True,
        functions=(*_BUILD, "stored_weights", "constants"),
        priority=4,
    ),
    "tokenizer": Stage(slices.nothing, {"": Need(700)}, minutes=10, seconds=5),
    "reference": Stage(
        slices.nothing,
        {"": Need(500, 2.2)},
        minutes=10,
        seconds=1,
        functions=(*_BUILD, "evaluation", "play"),
    ),
    "calibrate": Stage(
        slices.calibrate,
        {"": Need(550, 1.6)},
        minutes=10,
        seconds=1,
        feeds_bytes=True,
        functions=(*_BUILD, "calibration", "play"),
        priority=3,
    ),
    "convert": Stage(
        slices.convert,
        {"": Need(700, 2.4)},
        minutes=10,
        seconds=2,
        feeds_bytes=True,
        functions=(*_BUILD, "stored_weights"),
        priority=2,
    ),
    "evaluate": Stage(
        slices.nothing,
        {"": Need(600, 2.4)},
        minutes=10,
        seconds=1,
        functions=("example_inputs", "methods", "play"),
    ),
    "edge": Stage(
        slices.edge,
        {"": Need(550, 2.6), "compressed": Need(550, 1.2)},
        minutes=10,
        seconds=2,
        feeds_bytes=True,
        priority=1,
    ),
    "lower": Stage(
        slices.lower,
        {"": Need(700, 4), "compressed": Need(700, 2.2)},
        minutes=10,
        seconds=2,
        feeds_bytes=True,
    ),
    "pte": Stage(
        slices.pte,
        {"": Need(150, 1.2), "rewritten": Need(450, 4.2)},
        minutes=10,
        feeds_bytes=True,
    ),
    "validate": Stage(
        slices.validate,
        {"": Need(500, 2.9)},
        minutes=10,
        seconds=1,
        functions=(*_SAMPLES, "evaluation", "play", "score", "agreement", "output_names"),
    ),
    "diverge": Stage(slices.nothing, {"": Need(500, 3.6)}, minutes=10, seconds=3),
    "plan": Stage(slices.plan, {"": Need(100)}, minutes=10),
    "summary": Stage(slices.summary, {"": Need(100)}, minutes=10),
    "manifest": Stage(slices.nothing, {"": Need(100)}, minutes=10),
    "report": Stage(slices.report, {"": Need(250)}, minutes=10, seconds=2),
    "gates": Stage(slices.nothing, {"": Need(100)}, minutes=10),
}

FEEDING_BYTES = tuple(name for name, stage in STAGES.items() if stage.feeds_bytes)
