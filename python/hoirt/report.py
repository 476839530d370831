"""The report sheet: before, after, depth, mask and keypoints of every picture, and its hands enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.hand import Hand
from hoirt.hands.window import Window
from hoirt.imaging import load
from hoirt.pipeline.result import Result

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Pixels = NDArray[np.uint8]

_TILE = 224  # pixels; side of a panel
_GAP = 8
_LINE = 18  # pixels of height for a line of text
_MOST_HANDS = 4  # zoomed rows per picture
_ZOOM = 1.3
_COLUMNS = ("before", "after", "depth", "mask", "keypoints")
_FINGERS = ((230, 80, 60), (240, 170, 50), (90, 190, 90), (70, 150, 230), (170, 110, 220))  # thumb .. pinky
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 30), (120, 120, 120)


class Sheet:
    """A sheet that grows picture by picture; only its small panels are kept."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, list[list[Image]]]] = []

    def add(self, title: str, image: Any, result: Result) -> None:
        """Adds a row for the picture and one for each of its first four hands.

        Args:
            title: the line over the rows; what happened is added to it.
            image: the picture as it was given to refine(), of any kind that refine() takes.
            result: what refine() returned; that of a failed picture shows as a line that says why.
        """
        self._blocks.append((_headline(title, result), _block(image, result)))

    def __len__(self) -> int:
        return len(self._blocks)

    def image(self) -> Image:
        """The sheet as an RGB PIL image."""
        from PIL import Image, ImageDraw

        if not self._blocks:
            raise InputError("there is no picture to show on the sheet")
        width = _GAP + len(_COLUMNS) * (_TILE + _GAP)
        rows = sum(row[0].height + _GAP for _, block in self._blocks for row in block)
        height = _GAP + _LINE * (1 + len(self._blocks)) + rows + _GAP
        sheet = Image.new("RGB", (width, height), _PAPER)
        draw = ImageDraw.Draw(sheet)
        for column, name in enumerate(_COLUMNS):
            draw.text((_GAP + column * (_TILE + _GAP), _GAP), name, fill=_FAINT)
        top = _GAP + _LINE
        for headline, block in self._blocks:
            draw.text((_GAP, top), headline[: width // 6], fill=_INK)
            top += _LINE
            for row in block:
                for column, panel in enumerate(row):
                    sheet.paste(panel, (_GAP + column * (_TILE + _GAP), top))
                top += row[0].height + _GAP
        return sheet


def report_sheet(
    images: Sequence[Any], results: Sequence[Result], titles: Sequence[str] | None = None
) -> Image:
    """The sheet of several pictures, an RGB PIL image.

    Args:
        images: the pictures as given to refine(); any kind that refine() takes.
        results: what it returned, in the same order.
        titles: a line for each picture; None numbers them.

    Raises:
        InputError: no picture, lengths that differ, or a picture that cannot be read.
    """
    names = [f"picture {index + 1}" for index in range(len(images))] if titles is None else titles
    if not len(images) == len(results) == len(names):
        raise InputError(
            f"images, results and titles must be as many; there are "
            f"{len(images)}, {len(results)} and {len(names)}"
        )
    sheet = Sheet()
    for title, image, result in zip(names, images, results, strict=True):
        sheet.add(title, image, result)
    return sheet.image()


def _headline(name: str, result: Result) -> str:
    return f"{name}: {result.summary()}"


def _block(image: Any, result: Result) -> list[list[Image]]:
    """Rows of five panels: the whole picture, then each hand."""
    if result.error is not None or result.depth is None or result.mask is None:
        return []
    before, after = load(image).pixels, load(result.image).pixels
    layers = (before, after, _as_rgb(result.depth), _as_rgb(result.mask * np.uint8(255)))
    windows = [Window.whole(result.mask.shape)]
    windows += [Window.around(hand.box, _ZOOM) for hand in result.hands[:_MOST_HANDS]]
    rows = []
    for window in windows:
        row = [_panel(layer, window) for layer in layers]
        rows.append([*row, _with_keypoints(after, window, result.hands)])
    return rows


def _as_rgb(grey: Pixels) -> Pixels:
    return np.repeat(grey[..., None], 3, axis=2)


def _panel(pixels: Pixels, window: Window) -> Image:
    """The window in a tile as wide as a column, centred if it is narrower."""
    from PIL import Image

    scale = _TILE / max(window.width, window.height)
    size = (max(1, round(window.height * scale)), max(1, round(window.width * scale)))
    part = Image.fromarray(window.look(pixels, size))
    tile = Image.new("RGB", (_TILE, part.height), _PAPER)
    tile.paste(part, ((_TILE - part.width) // 2, 0))
    return tile


def _with_keypoints(pixels: Pixels, window: Window, hands: Sequence[Hand]) -> Image:
    from PIL import ImageDraw

    tile = _panel(pixels, window)
    scale = _TILE / max(window.width, window.height)
    middle = np.array([window.left + window.width / 2, window.top + window.height / 2])
    draw = ImageDraw.Draw(tile)
    for hand in hands:
        _skeleton(draw, (hand.keypoints - middle) * scale + (tile.width / 2, tile.height / 2))
    return tile


def _skeleton(draw: ImageDraw, points: NDArray[np.floating[Any]]) -> None:
    """Five coloured chains from the wrist."""
    places = [(float(x), float(y)) for x, y in points]
    for finger, colour in enumerate(_FINGERS):
        chain = [places[0], *places[1 + 4 * finger : 5 + 4 * finger]]
        draw.line(chain, fill=colour, width=2)
        for x, y in chain[1:]:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
