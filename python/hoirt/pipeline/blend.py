"""Pastes new colours into the picture; opacity rises inside the mask, every other pixel keeps its bits."""

from __future__ import annotations

from typing import Any

from hoirt.pipeline.arrays import Arrays
from hoirt.pipeline.regions import Region

_BAND = 256  # rows at a time: a hand that fills an 8k picture must not need gigabytes


def blend(arrays: Arrays, pixels: Any, changed: Any, region: Region, colours: Any) -> None:
    """Writes a region's `colours` (h, w, 3), float32 0..255 at working size, into `pixels` (H, W, 3) in
    place; all where `arrays` works.

    Sets `changed` (H, W) to 1 over the region's mask; pixels outside are not touched.
    """
    window = region.window
    opacity = arrays.soften(region.mask, region.feather, fade_at_border=not region.whole)
    hole = arrays.soften(region.mask, 0.0, fade_at_border=False)  # 0 or 1
    rows, columns = window.clipped((changed.shape[0], changed.shape[1]))
    scale_x, scale_y = hole.shape[1] / window.width, hole.shape[0] / window.height
    for start in range(rows.start, rows.stop, _BAND):
        band = slice(start, min(start + _BAND, rows.stop))
        size = (band.stop - band.start, columns.stop - columns.start)
        box = (
            (columns.start - window.left) * scale_x,
            (band.start - window.top) * scale_y,
            min((columns.stop - window.left) * scale_x, hole.shape[1]),
            min((band.stop - window.top) * scale_y, hole.shape[0]),
        )
        if region.outline is not None:
            inside = arrays.part(region.outline, band, columns)
        else:
            inside = arrays.resize(hole, size, box)
        alpha = arrays.cut(inside, opacity, box, changed, band.start, columns.start)
        if alpha is not None:
            arrays.paste(pixels, arrays.resize(colours, size, box), alpha, band.start, columns.start)
