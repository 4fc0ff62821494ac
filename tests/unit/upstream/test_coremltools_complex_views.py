"""Protects programs that take the real and the imaginary part of a spectrum."""

import pytest
import torch
from pte_foundry.bench.operators.program import lowered_by_upstream
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.pte import Pte
from pte_foundry.upstream.coremltools_complex_views import converted_complex_views
from pte_foundry.upstream.coremltools_operators import converted

from tests.unit.lowering.test_lowering import TARGET

SIGNAL = torch.tensor([[1.0, 2, 0, -3, 5, 1, 0, 2]])


class Spectrum(torch.nn.Module):
    def forward(self, x):
        spectrum = torch.fft.rfft(x, norm="ortho")
        return torch.view_as_real(spectrum), spectrum.real * 2, spectrum.imag


def test_both_parts_are_computed_in_core_ml():
    target = TARGET | {"compute_precision": "float32"}
    edge = edge_program.make(torch.export.export(Spectrum(), (SIGNAL,)), [])
    written = coreml.lower(edge, target)
    assert describe(written).delegated_fraction == 1.0
    for got, expected in zip(Pte.load(written).run((SIGNAL,)), Spectrum()(SIGNAL), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_upstream_still_has_the_fault():
    """If this fails, upstream has fixed it: remove converted_complex_views."""
    with pytest.raises((TypeError, ValueError), match="complex"):
        lowered_by_upstream(torch.export.export(Spectrum(), (SIGNAL,)), "float32")


def test_the_name_is_registered_within_the_context_only():
    name = "aten.view_as_real_copy.default"
    assert name not in converted()
    with converted_complex_views():
        assert name in converted()
    assert name not in converted()
