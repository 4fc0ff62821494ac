"""Rounds the numbers of a report to the digits that mean something.

Rounding alone does not make reports equal: between 1 and 2 threads, and between AVX-512, AVX2 and
SSE4.1, SQNRs of the models in config/config.yaml differ by

======================  ========  ==================================================================
build                   dB        why
======================  ========  ==================================================================
int8_static, digits     0.000     few sums are close to a rounding border
lut6, fp16, digits      0.0005    and 0.05: a last bit in fp32 is sometimes a step in fp16
fp16, MobileNetV2       0.25      the same, amplified by 50 layers
int8_static, the same   0.38      the same, in steps of 1/255
fp32, MiniLM            24        the noise is nothing but the order of the sums
======================  ========  ==================================================================

and values next to the border of two roundings would differ however coarse they are. So the steps
``reference``, ``evaluate`` and ``validate`` run in :mod:`pte_foundry.job.deterministic_env`, where
they compute the same bits on every x86-64 machine, and the digits kept here are those that a reader
can use, and that survive the summation of metrics in another order.
"""

from __future__ import annotations

from typing import Any

_SIGNIFICANT = {"max_abs_error": 3}
_TASK_DIGITS = 6
_SHARE_DIGITS = 12
"""Shares are ratios of counts: all digits mean something, and 0.99999 must not become 1."""


def rounded(value: Any, name: str = "") -> Any:
    """Returns a metric, or a dict or list of them, with rounded floats; integers stay as they are.

    SQNRs keep 0.01 dB, above 100 dB 0.1 dB; cosines 6 decimals; ``max_abs_error`` 3 significant
    digits, shares (``*_fraction``, ``*_agreement``) 12, and task metrics 6.

    Args:
        value: what to round.
        name: the metric's name.
    """
    if isinstance(value, dict):
        return {key: rounded(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part, name) for part in value]
    if not isinstance(value, float):
        return value
    if name.endswith("_db"):
        return round(value, 2 if abs(value) < 100 else 1)
    if name == "cosine":
        return round(value, 6)
    share = name.endswith(("_fraction", "_agreement"))
    return float(f"{value:.{_SIGNIFICANT.get(name, _SHARE_DIGITS if share else _TASK_DIGITS)}g}")
