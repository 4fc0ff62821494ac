"""Whether all builds of a summary pass: what the exit code of a build depends on."""

from __future__ import annotations

from pte_foundry.errors import FoundryError
from pte_foundry.report import text
from pte_foundry.report.schema import Summary, SummaryRecord

_NAMED = 10  # builds that a message names


class FailedBuildsError(FoundryError):
    """Builds miss gates, or could not be executed. All files of the build exist."""


def passed(summary: Summary) -> dict[str, int]:
    """Returns the counts of a summary in which no build fails.

    Raises:
        FailedBuildsError: naming the builds that fail, with the metrics of the missed gates.
    """
    failed = [build for build in summary["builds"] if build["status"] == "fail"]
    totals = summary["totals"]
    if not failed:
        return {name: totals[name] for name in ("builds", "passed", "warned")}
    named = "; ".join(map(_reason, failed[:_NAMED]))
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    plural = "" if totals["builds"] == 1 else "s"
    raise FailedBuildsError(
        f"everything is built, but {len(failed)} of {totals['builds']} build{plural} "
        f"fail{'s' * (len(failed) == 1)}: {named}{more}. "
        "See `pte-foundry table` or results/report/index.html for the values. Improve the recipe, "
        "or change the limit under `gates`."
    )


def _reason(build: SummaryRecord) -> str:
    missed = [gate["metric"] for gate in build["gates"] if text.gate_status(gate) == "fail"]
    error = build.get("error")
    reasons = ([f"{error['stage']} failed"] if error else []) + list(dict.fromkeys(missed))
    return f"{text.build_name(build['build'])} ({', '.join(reasons)})"
