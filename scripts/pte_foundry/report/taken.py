"""What an artifact takes beyond one shape for each input: other sizes, and states."""

import re

from pte_foundry.names import program_name
from pte_foundry.validate.schema import Artifact


def sizes(artifact: Artifact, method: str, name: str) -> str:
    """Return the shapes that an input takes, a range or a list; "" if it is only one.

    Args:
        artifact: of the report.
        method: name of the method; "" is the only one.
        name: of the input, as the model has it. In the Core ML program it has its ``program_name``.
    """
    accepted = artifact.get("accepts", {}).get(method or "forward", {})
    described = accepted.get(program_name(name), "")
    if " in the shapes " in described:
        *most, last = re.findall(r"\[[^]]*\]", described.partition(" in the shapes ")[2])
        return f"{', '.join(most)} or {last}"
    return re.sub(r"(\d)\.\.", r"\1…", described[described.find("[") :]) if described else ""


def states(artifact: Artifact) -> list[list[str]]:
    """Return a row for each state; Core ML keeps them in fp16 whatever the precision."""
    return [["state", name, "float16", ""] for name in artifact.get("states", [])]
