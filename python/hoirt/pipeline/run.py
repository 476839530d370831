"""One picture through all stages: load, find, plan, regenerate, paste."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import Cancelled
from hoirt.hands.hand import Hand
from hoirt.imaging import Picture, load, load_depth, load_mask
from hoirt.pipeline.blend import blend
from hoirt.pipeline.models import Models
from hoirt.pipeline.options import Item, Settings, hand_seed
from hoirt.pipeline.regions import Region
from hoirt.pipeline.result import Result, Status, StepInfo
from hoirt.pipeline.timings import Stopwatch

if TYPE_CHECKING:
    from hoirt import _core
    from hoirt.schedules import StepTable


def refine_picture(models: Models, item: Item, settings: Settings, table: StepTable) -> Result:
    """Refines one picture; `item` is checked but for its image, hands, mask and depth."""
    watch = Stopwatch()
    with watch("load"):
        picture = load(item.image)
        mask = None if item.mask is None else load_mask(item.mask, picture.size)
        depth = None if item.depth is None else load_depth(item.depth, picture.size)
    _stop_if_cancelled(settings)
    hands = models.find(picture.pixels, item.hands, watch)
    with watch("render"):
        plan = models.plan.crops if settings.region == "crop" else models.plan.frame
        regions = plan(picture.size, hands, depth, mask)
        shown = models.plan.shown_depth(picture.size, hands) if depth is None else depth
    changed = np.zeros(picture.size, np.uint8)
    if regions:
        _stop_if_cancelled(settings)
        colours = _regenerate(models, picture, regions, item, settings, table, watch)
        with watch("paste"):
            image = picture.rebuild(_pasted(picture, regions, hands, colours, changed))
    else:
        image = picture.unchanged()
    status: Status = "refined" if regions else "unchanged" if hands else "no_hand"
    return Result(
        image,
        status,
        hands=tuple(hands),
        depth=shown,
        mask=changed,
        strength=settings.strength,
        seed=item.seed,
        timings=watch.timings(),
    )


def _regenerate(
    models: Models,
    picture: Picture,
    regions: list[Region],
    item: Item,
    settings: Settings,
    table: StepTable,
    watch: Stopwatch,
) -> NDArray[np.float32]:
    with watch("encode"):
        text, negative = models.embed(item.prompt), models.embed(item.negative_prompt)
    return models.inpaint(
        picture.pixels,
        regions,
        table=table,
        text=text,
        negative=negative,
        strength=settings.strength,
        seeds=[hand_seed(item.seed, region.index) for region in regions],
        noise=item.noise,
        on_step=_relay(settings, len(regions), item.index),
        cancel=settings.cancel,
        watch=watch,
    )


def _pasted(
    picture: Picture,
    regions: list[Region],
    hands: list[Hand],
    colours: NDArray[np.float32],
    changed: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """The picture with every region pasted, nearer hands over farther ones."""
    pixels = picture.pixels.copy()

    def nearness(at: int) -> float:
        index = regions[at].index
        return hands[index].apparent_scale if index < len(hands) else 0.0

    for at in sorted(range(len(regions)), key=nearness):
        blend(pixels, changed, regions[at], colours[at])
    return pixels


def _relay(settings: Settings, count: int, image: int) -> Callable[[_core.StepInfo], bool] | None:
    """The core's step callback in terms of the public StepInfo."""
    if settings.on_step is None:
        return None
    tell = settings.on_step
    elapsed = 0.0

    def relay(info: _core.StepInfo) -> bool:
        nonlocal elapsed
        elapsed += info.seconds
        told = StepInfo(info.step, info.steps, info.timestep, elapsed, count, image, info.x0)
        return tell(told) is not False

    return relay


def _stop_if_cancelled(settings: Settings) -> None:
    if settings.cancel is not None and settings.cancel.cancelled:
        raise Cancelled("cancelled by the caller's token")
