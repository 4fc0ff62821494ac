"""Torch models that resize and sample, through coremltools' converter and passes, against torch."""

import pytest
import torch
import torch.nn.functional as F
from pte_foundry.mil import Program

from tests.mil.mil_cases import coremltools


class Interpolations(torch.nn.Module):
    def forward(self, x):
        return (
            F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
            F.interpolate(x, scale_factor=(0.5, 3), mode="bilinear", align_corners=True),
            F.interpolate(x, size=(9, 4), mode="bilinear", align_corners=True),
            F.interpolate(x, size=(9, 4), mode="bilinear", align_corners=False),
            F.interpolate(x, size=(1, 1), mode="bilinear", align_corners=False),
            F.interpolate(x, size=(4, 11), mode="nearest"),
            F.interpolate(x, scale_factor=(4.5, 3), mode="nearest"),
            F.interpolate(x.flatten(2), size=17, mode="nearest"),
            F.interpolate(x.flatten(2), scale_factor=2, mode="linear", align_corners=False),
        )


def agrees_when_converted(model, inputs, target, exported, folder):
    """From torch through coremltools' converter and passes: at least 90 dB for every output."""
    ct = coremltools()
    if exported:
        source = torch.export.export(model.eval(), inputs).run_decompositions({})
    else:
        source = torch.jit.trace(model.eval(), inputs)
    converted = ct.convert(
        source,
        inputs=[ct.TensorType(f"i{k}", tuple(x.shape)) for k, x in enumerate(inputs)],
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    converted.save(str(folder / "m.mlpackage"))
    program = Program.load(folder / "m.mlpackage")
    got = program.run({f"i{k}": x.numpy() for k, x in enumerate(inputs)})
    for value, want in zip(got.values(), model(*inputs), strict=True):
        noise = (want - torch.from_numpy(value)).square().sum().clamp(min=1e-30)
        assert 10 * torch.log10(want.square().sum() / noise) > 90
    return {operation.op for operation in program.operations()}


@pytest.mark.parametrize("exported", [False, True], ids=["traced", "exported"])
@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
def test_converted_interpolations_compute_what_torch_does(target, exported, tmp_path):
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(3))
    ops = agrees_when_converted(Interpolations(), (x,), target, exported, tmp_path)
    assert ops >= {"upsample_bilinear", "upsample_nearest_neighbor"}


class Samples(torch.nn.Module):
    """The affine grid only where coremltools can translate it: not in exported programs."""

    def __init__(self, affine):
        super().__init__()
        self.affine = affine
        theta = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(3))
        self.register_buffer("theta", theta)

    def forward(self, x, grid):
        samples = [
            F.grid_sample(x, grid, mode, padding, align)
            for mode in ("bilinear", "nearest")
            for padding in ("zeros", "border", "reflection")
            for align in (True, False)
        ]
        if self.affine:
            places = F.affine_grid(self.theta, [2, 3, 5, 4], align_corners=True)
            samples.append(F.grid_sample(x, places, align_corners=True))
        return tuple(samples)


@pytest.mark.parametrize("exported", [False, True], ids=["traced", "exported"])
@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
def test_converted_samples_are_what_torch_takes(target, exported, tmp_path):
    random = torch.Generator().manual_seed(3)
    x, grid = torch.randn(2, 3, 6, 8, generator=random), torch.rand(2, 4, 7, 2, generator=random)
    model = Samples(affine=not exported)
    ops = agrees_when_converted(model, (x, grid * 4 - 2), target, exported, tmp_path)
    assert ops >= {"resample", "affine"} - ({"affine"} if exported else set())
