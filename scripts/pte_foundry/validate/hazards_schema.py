"""Hazards and known issues in the validation report (:mod:`pte_foundry.validate.schema`)."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

HazardKind = Literal[
    "nan",
    "inf",
    "fp16_overflow",
    "fp16_near_overflow",
    "output is all zeros",
    "output is constant",
    "integer_rounded",
    "fp16_integer",
    "integer_wrap",
    "constant_overflow",
    "clipped",
]
"""``inf``: at a pole such as log(0), or in fp32. ``fp16_overflow``: any other infinity in fp16.
``fp16_near_overflow``: a finite fp16 value beyond half of the largest one, 65504. ``output is …``:
in all samples, though the reference is not (:mod:`pte_foundry.validate.output_hazards`).
``integer_rounded``: an integer that fp16 does not have is cast to fp16 and becomes an integer again
later. ``fp16_integer``: an integer that fp16 does not have is used as a float, or integers are
computed in fp16 beyond 2048, up to which it has all of them. ``integer_wrap``: integers are cast to
8 or 16 bits that do not hold them. ``constant_overflow``: a finite constant of the model is
infinite in fp16; what that damages is a hazard of its own. ``clipped``: static quantization cuts
off more than a hundredth of a value's power (:mod:`pte_foundry.validate.clipping`)."""

WARNINGS = ("fp16_near_overflow", "fp16_integer", "constant_overflow", "clipped")
"""Kinds of hazards that need not make a result wrong. All other kinds are damage."""


class Hazard(TypedDict):
    """Non-finite or nearly overflowing values, at the operation where they arise; lost outputs."""

    op: str
    """Type of the MIL operation; ``output`` for an output of the program."""
    torch_source: str | None
    """The torch operators it comes from, each ``operator @ module``; null if unknown."""
    kind: HazardKind
    count: int
    """Number of executions of the operation in which it arises, over all samples."""
    name: NotRequired[str]
    """The value that the operation computes."""
    output: NotRequired[str]
    """Name of the output that is lost."""
    cause: NotRequired[str]
    """Why an output is lost, or a value clipped, in words, with the fix."""
    constant: NotRequired[str]
    """The constant of a ``constant_overflow``, in words, with the fix."""


IssueEffect = Literal["crash", "wrong", "refused", "slow"]
ISSUE_EFFECTS: tuple[IssueEffect, ...] = ("crash", "wrong", "refused", "slow")
"""Worst first: the process dies, the numbers are wrong, the program does not load, or the unit is
not used or compiles for minutes."""


class KnownIssue(TypedDict):
    """A public report of a failure on Apple's runtimes that this build matches: a warning."""

    op: str
    """Type of the MIL operation, ``*`` for the whole program, or a namespace of kernels outside of
    the delegate."""
    torch_source: str | None
    """Its torch operators, each ``operator @ module``, at most three; null if unknown."""
    unit: str
    """The affected compute units that the target allows: ``cpu``, ``gpu``, ``ne``."""
    os: str
    """The affected systems, for example ``iOS 26 and later``."""
    effect: IssueEffect
    """One of ``ISSUE_EFFECTS``."""
    source: str
    """The report, with its date."""
    condition: str
    """What the report is about."""
    count: int
    """Number of operations that match."""
