"""Names of the points of a plot, placed so that none covers another name or point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

# In pixels. In a plot that is wider than that, the points move apart, but not the text.
WIDTHS = {"side": 290, "wide": 440}
"""The narrowest plot, on a phone, and one of a screen; by the name of where a name goes there."""

HEIGHT = 235
_CHARACTER, _LINE, _MARK, _GAP = 6.2, 13.0, 6.0, 9.0

SIDES = {
    # side: the alignment and the baseline of its text, and its distance from the point
    "right": ("left", "middle", _GAP, 0.0),
    "left": ("right", "middle", -_GAP, 0.0),
    "above": ("center", "bottom", 0.0, -_GAP + 2),
    "below": ("center", "top", 0.0, _GAP - 2),
    "above right": ("left", "bottom", 5.0, -4.0),
    "above left": ("right", "bottom", -5.0, -4.0),
    "below right": ("left", "top", 5.0, 4.0),
    "below left": ("right", "top", -5.0, 4.0),
}


class Box(NamedTuple):
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def place(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    front: Sequence[int] = (),
    width: float = WIDTHS["side"],
) -> list[str | None]:
    """Returns the side of each point that its name goes to; None if it has no room.

    Args:
        points: their places in the plot, from the left and from the bottom, each from 0 to 1.
        names: their names. A name that several points have is placed once.
        front: indices of the points that a line of steps connects. They are named first.
        width: of the plot, in pixels.
    """
    places = [(x * width, (1 - y) * HEIGHT) for x, y in points]
    taken = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in places]
    taken += _steps([places[index] for index in front])
    sides: list[str | None] = [None] * len(points)
    named: set[str] = set()
    for index in dict.fromkeys([*front, *range(len(points))]):
        if names[index] in named:
            continue
        others = taken[:index] + taken[index + 1 :]
        for side in SIDES:
            box = box_of(places[index], names[index], side)
            inside = box.left >= -20 and box.right <= width + 20 and box.top >= -20
            if inside and not any(map(box.meets, others)):
                sides[index] = side
                named.add(names[index])
                taken.append(box)
                break
    return sides


def _steps(places: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """The line from each place to the next: to the right, then up."""
    for (left, low), (right, high) in pairwise(places):
        yield Box(left, low - 1, right, low + 1)
        yield Box(right - 1, min(high, low), right + 1, max(high, low))


def box_of(point: tuple[float, float], name: str, side: str) -> Box:
    """Returns what the name of a point covers, in pixels."""
    align, baseline, dx, dy = SIDES[side]
    x, y, width = point[0] + dx, point[1] + dy, _CHARACTER * len(name)
    left = {"left": x, "right": x - width, "center": x - width / 2}[align]
    top = {"middle": y - _LINE / 2, "bottom": y - _LINE, "top": y}[baseline]
    return Box(left, top, left + width, top + _LINE)
