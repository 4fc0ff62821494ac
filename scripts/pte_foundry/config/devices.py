"""The ``devices`` section: where builds are validated.

To add a kind of device: a class like ``Interpreter``, and an entry in ``DEVICES``.
"""

from typing import Literal

from pydantic import Field, computed_field

from pte_foundry.config.base import Strict, by_key


class Interpreter(Strict):
    """Our interpreter of Core ML programs; executes the bytes of the `.pte` on this machine."""

    kind: Literal["interpreter"] = Field(
        description="Our interpreter of Core ML programs, on this machine."
    )

    @computed_field
    @property
    def engine(self) -> str:
        """What executes the artifact, for the validation report."""
        return "mil-reference"


DEVICES: dict[str, type[Strict]] = {"interpreter": Interpreter}
Device = by_key("kind", DEVICES)
