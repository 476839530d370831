"""Regions: what of a picture is regenerated, under which depth and mask, at the network's working size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.mask import Mask
from hoirt.hands.render import draw_depth
from hoirt.hands.window import Box, Window

if TYPE_CHECKING:
    from hoirt.packs import Settings as PackSettings
    from hoirt.pipeline.arrays import Arrays

_FRAME_CROPS = 4  # a whole picture is worked on at no more than this many crops a side
_TOGETHER = 0.25  # overlap from which two hands are regenerated together
_SHOWN_SIDE = 1024  # depth maps for the result are drawn at no more than this and enlarged


@dataclass(frozen=True, eq=False)
class Region:
    """One item of the denoising batch; its maps lie where the pipeline runs.

    Attributes:
        index: of the hand, or of the first one, for its seed.
        hands: indices of the hands that are drawn in it, from far to near.
        window: the part of the picture.
        depth: uint8 (h, w) at working size, the condition.
        mask: bool (h, w) at working size, True = regenerate.
        outline: uint8 (H, W) of the picture, 255 in the mask, if the caller drew it; its exact pixels then
            count.
        feather: width of the soft edge in working pixels.
        whole: the window is the picture itself, so its border is no seam.
    """

    index: int
    hands: tuple[int, ...]
    window: Window
    depth: Any
    mask: Any
    outline: Any
    feather: float
    whole: bool


class RegionPlanner:
    """Cuts pictures into regions by the pack's settings."""

    def __init__(self, settings: PackSettings, arrays: Arrays) -> None:
        self._arrays = arrays
        self._crop = settings.crop
        self._frame = _FRAME_CROPS * settings.crop
        self._multiple = settings.size_multiple
        self._pad = settings.mask.pad
        self._feather = settings.mask.feather
        self._box_scale = settings.box_scale

    def crops(
        self, size: tuple[int, int], hands: list[Hand], depth: NDArray[np.uint8] | None, mask: Mask | None
    ) -> list[Region]:
        """One square per hand, or per group of hands that cover each other; without hands, one around the
        given depth map. Empty masks are left out.
        """
        working = (self._crop, self._crop)
        squares = [(group, self._around([hands[k] for k in group])) for group in overlapping(hands)]
        if not hands and depth is not None and depth.any():
            bounds = _bounds(depth > 0 if mask is None else mask | (depth > 0))
            squares = [((), Window.around(bounds, self._box_scale))]
        depth, outline = self._put(depth, mask)
        regions = [
            self._region(group, square, working, hands, depth, outline, whole=False)
            for group, square in squares
        ]
        return [region for region in regions if self._arrays.any(region.mask)]

    def frame(
        self, size: tuple[int, int], hands: list[Hand], depth: NDArray[np.uint8] | None, mask: Mask | None
    ) -> list[Region]:
        """The whole picture with all hands on one depth map, or nothing if there is no hand in it."""
        if not hands and (depth is None or not depth.any()):
            return []
        scale = min(1.0, self._frame / max(size))
        height, width = (max(1, round(side * scale / self._multiple)) * self._multiple for side in size)
        everyone = tuple(range(len(hands)))
        depth, outline = self._put(depth, mask)
        region = self._region(
            everyone, Window.whole(size), (height, width), hands, depth, outline, whole=True
        )
        return [region] if self._arrays.any(region.mask) else []

    def _put(self, depth: NDArray[np.uint8] | None, mask: Mask | None) -> tuple[Any, Any]:
        """What the caller drew, where the pipeline runs; of the mask its `outline`."""
        outline = None if mask is None else self._arrays.put(mask.view(np.uint8) * np.uint8(255))
        return None if depth is None else self._arrays.put(depth), outline

    def square(self, hand: Hand) -> Window:
        """The crop of a hand."""
        return Window.around(hand.box, self._box_scale)

    def _around(self, hands: list[Hand]) -> Window:
        """The crop of hands that are regenerated together."""
        if len(hands) == 1:
            return self.square(hands[0])
        x0, y0, x1, y1 = np.array([hand.box for hand in hands]).T
        return Window.around((x0.min(), y0.min(), x1.max(), y1.max()), self._box_scale)

    def shown_depth(self, size: tuple[int, int], hands: list[Hand]) -> Any:
        """Depth of all hands at the picture's `size` (H, W), each drawn in its own crop, near over far."""
        canvas = self._arrays.zeros(size)
        for hand in sorted(hands, key=lambda hand: hand.apparent_scale):
            rows, columns = self.square(hand).clipped(size)
            height, width = rows.stop - rows.start, columns.stop - columns.start
            scale = min(1.0, _SHOWN_SIDE / max(height, width))
            drawn = (max(1, round(height * scale)), max(1, round(width * scale)))
            seen = Window(columns.start, rows.start, width, height)
            self._arrays.lay(canvas, draw_depth([hand], seen, drawn, self._arrays.device), rows, columns)
        return canvas

    def _region(
        self,
        group: tuple[int, ...],
        window: Window,
        working: tuple[int, int],
        everyone: list[Hand],
        depth: Any,
        outline: Any,
        *,
        whole: bool,
    ) -> Region:
        arrays = self._arrays
        group = tuple(sorted(group, key=lambda k: everyone[k].apparent_scale))
        hands = [everyone[k] for k in group]
        # Fractions of a crop's side become working pixels; a frame may hold crops of several sizes.
        sides = [self.square(hand).width * working[1] / window.width for hand in hands] or [max(working)]
        if depth is None:
            hint = draw_depth(hands, window, working, arrays.device)
        else:
            hint = arrays.look_at(depth, window, working, smooth=False)
        if outline is None:
            seen = arrays.copy(hint)
            for hand in hands:
                arrays.see(seen, hand, self.square(hand), window)
            hole = arrays.grow(seen, round(self._pad * max(sides)))
        else:
            hole = arrays.grow(arrays.look_at(outline, window, working), 0)  # all that a masked one touches
        return Region(
            min(group, default=0), group, window, hint, hole, outline, self._feather * min(sides), whole
        )


def overlapping(hands: list[Hand]) -> list[tuple[int, ...]]:
    """Indices of the hands in groups: two hands belong together if one covers a quarter of the other's box.

    Such hands are regenerated in one crop, under one depth map with the nearer hand over the farther one:
    repaired one after the other, the second would paint over what the first had just received.
    """
    groups: list[set[int]] = []
    for index, hand in enumerate(hands):
        touching = [
            group for group in groups if any(_cover(hand.box, hands[k].box) > _TOGETHER for k in group)
        ]
        groups = [group for group in groups if group not in touching] + [{index}.union(*touching)]
    return sorted(tuple(sorted(group)) for group in groups)


def _cover(a: Box, b: Box) -> float:
    """Share of the smaller box that the other one covers."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0.0) * max(height, 0.0) / max(smaller, 1e-9)


def _bounds(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
