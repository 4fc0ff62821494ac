"""Calibration of several methods, or of conversations: see :mod:`pte_foundry.quantize.pt2e`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram

from pte_foundry.errors import ModelError
from pte_foundry.models.inference import resetter
from pte_foundry.quantize.pt2e import Observed, Statistics


def calibrate_played(
    programs: Mapping[str, ExportedProgram],
    settings: dict[str, Any],
    play: Callable[[Callable[[str, tuple[torch.Tensor, ...]], Any], Callable[[], None]], None],
) -> dict[str, Statistics]:
    """Observes the activations of methods while samples are played; see ``pt2e.calibrate``.

    Args:
        programs: by method.
        settings: as for ``pt2e.calibrate``.
        play: plays all samples, given what runs a method, and what resets all states.

    Raises:
        ModelError: a sample cannot be played, no sample calls a method, or a range is nan.
    """
    observed = {method: Observed(program, settings) for method, program in programs.items()}
    if not any(observed.values()):
        return {method: {} for method in observed}
    resets = [resetter(one.module, one.states) for one in observed.values()]
    called = set()

    def run(method: str, inputs: tuple[torch.Tensor, ...]) -> Any:
        called.add(method)
        with torch.no_grad():
            return observed[method].module(*inputs)

    play(run, lambda: [reset() for reset in resets])
    if unused := [method for method, one in observed.items() if one and method not in called]:
        raise ModelError(
            f"no calibration sample calls {', '.join(unused)}, so the ranges of its activations "
            "are unknown; calibration() must give samples for which play() calls every method"
        )
    return {method: one.statistics() for method, one in observed.items()}
