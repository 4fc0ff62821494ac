"""Samples from the data files of a model that needs no Python file: images, and lines of text.

Every second one is for calibration, the others are for evaluation.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pte_foundry.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

CALIBRATION, EVALUATION = slice(0, None, 2), slice(1, None, 2)
_IMAGES = re.compile(r".*\.(png|jpe?g|webp|bmp|gif|tiff?)", re.IGNORECASE)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def reads(*names: str) -> Callable[[_Function], _Function]:
    """Marks a function that is only there if the model has one of these data files."""

    def mark(function: _Function) -> _Function:
        function.reads = names
        return function

    return mark


def images(archive: Path) -> Iterator[tuple[str, Image]]:
    """Yields the images of a zip archive in the order of their paths.

    Raises:
        ModelError: the file is no zip archive, or has no images that can be read.
    """
    from PIL import Image, UnidentifiedImageError

    count = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(filter(_IMAGES.fullmatch, opened.namelist())):
                with Image.open(BytesIO(opened.read(name))) as image:
                    yield name, image.convert("RGB")
                count += 1
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"read the data file images, {archive.name}, which is no zip archive; give a folder "
            "(`{folder: PATH}`) or a .zip of images"
        ) from error
    except (UnidentifiedImageError, OSError) as error:
        raise ModelError(f"found an image that cannot be read: {error}") from error
    if count < 2:
        raise ModelError(f"found {count} images in {archive.name}; give at least two")


def labels_of(names: list[str], known: dict[str, int]) -> list[int] | None:
    """Returns the classes of images whose folders are called like classes; None if one is not.

    Args:
        names: paths of the images.
        known: classes by name; a number is a class too.
    """
    folders = [Path(name).parent.name for name in names]
    found = [known.get(f, int(f) if f.isdecimal() else None) for f in folders]
    return None if None in found else found


def lines(file: Path) -> list[str]:
    """Returns the lines of a text file that are not empty.

    Raises:
        ModelError: it is not text in UTF-8, or there are fewer than two.
    """
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ModelError(f"read the data file text, which is not UTF-8: {error}") from error
    found = list(filter(None, found))
    if len(found) < 2:
        raise ModelError(f"found {len(found)} lines in {file.name}; give at least two")
    return found
