"""Pictures through all stages: load, find, plan, encode, regenerate, paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import Cancelled
from hoirt.hands.hand import Hand
from hoirt.imaging import Picture, load, load_depth, load_mask
from hoirt.pipeline import faithful
from hoirt.pipeline.blend import blend
from hoirt.pipeline.inpaint import Encoded, Floats, check_noise
from hoirt.pipeline.models import Models
from hoirt.pipeline.options import Item, Settings, hand_seed
from hoirt.pipeline.regions import Region
from hoirt.pipeline.result import Result, Status, StepInfo, Trial
from hoirt.pipeline.schedule import step_table
from hoirt.pipeline.timings import Stopwatch

if TYPE_CHECKING:
    from hoirt import _core
    from hoirt.schedules import StepTable


@dataclass(frozen=True, eq=False)
class Job:
    """A picture between finding its hands and pasting them.

    Attributes:
        regions: what is regenerated; empty if there is nothing to do. shown: the result's depth map (H, W),
            where the pipeline runs.
        encoded: the regions as the loop takes them, None without regions. table, noise: of its run.
        canvas: the picture's pixels where the pipeline runs.
    """

    item: Item
    picture: Picture
    canvas: Any
    hands: list[Hand]
    regions: list[Region]
    shown: Any
    encoded: Encoded | None
    table: StepTable
    noise: Floats | None
    watch: Stopwatch

    @property
    def strength(self) -> float | Literal["adaptive"]:
        strength: float | Literal["adaptive"] = self.item.strength
        return strength

    def check_cancel(self) -> None:
        """Raises Cancelled if this picture's token says so."""
        if self.item.cancel is not None and self.item.cancel.cancelled:
            raise Cancelled("cancelled by the caller's token")


@dataclass(frozen=True, eq=False)
class Painted:
    """A picture with new hands (H, W, 3), and, where the pipeline runs, where it changed (H, W)."""

    pixels: NDArray[np.uint8]
    changed: Any


def prepare(models: Models, item: Item, settings: Settings) -> Job:
    """All that comes before the loop; `item` is checked but for its image, hands, mask and depth."""
    watch = Stopwatch()
    with watch("load"):
        picture = load(item.image)
        mask = None if item.mask is None else load_mask(item.mask, picture.size)
        depth = None if item.depth is None else load_depth(item.depth, picture.size)
    hands = models.find(picture.pixels, item.hands, watch, released=settings.faithful)
    with watch("render"):
        if settings.faithful:
            multiple = models.settings.size_multiple
            regions, shown = faithful.plan(picture.size, multiple, hands, depth, mask)
        else:
            plan = models.plan.crops if settings.region == "crop" else models.plan.frame
            regions = plan(picture.size, hands, depth, mask)
            shown = models.plan.shown_depth(picture.size, hands) if depth is None else depth
    # Where both passes would predict the same, guidance changes nothing; one pass is half the work.
    table = step_table(models.scheduler, settings, guided=item.prompt != item.negative_prompt)
    encoded, noise, canvas = None, item.noise, None
    if regions:
        with watch("encode"):
            canvas = models.arrays.put(picture.pixels)
            posterior = None
            if settings.faithful:
                factor = models.inpaint.factor
                shape = (1, 4, *(side // factor for side in picture.size))
                posterior, noise = faithful.split_noise(noise, table, item.seed, shape)
            encoded = models.inpaint.encode(
                canvas,
                regions,
                text=models.embed(item.prompt),
                negative=models.embed(item.negative_prompt),
                seeds=[hand_seed(item.seed, region.index) for region in regions],
                posterior=posterior,
            )
        check_noise(noise, (table.noise_streams, *encoded.known.shape))
    return Job(item, picture, canvas, hands, regions, shown, encoded, table, noise, watch)


def regenerate(models: Models, jobs: Sequence[Job], settings: Settings) -> list[Painted]:
    """The jobs' pictures with new hands, all through one run of the loop.

    The jobs agree in size of regions and in table, and their strengths are numbers.
    """
    encoded = [_encoded(job) for job in jobs]
    strengths = [
        float(job.strength) for job, part in zip(jobs, encoded, strict=True) for _ in range(len(part))
    ]
    latents = _denoise(models, jobs, Encoded.joined(encoded, models.arrays), strengths, settings)
    parts = models.arrays.split(latents, [len(part) for part in encoded])
    return [paint(models, job, part, settings) for job, part in zip(jobs, parts, strict=True)]


def at_strengths(
    models: Models,
    job: Job,
    strengths: Sequence[float],
    settings: Settings,
    *,
    run: int,
    rows: int | None = None,
) -> list[Painted]:
    """One picture under several strengths as one batch, each with the same noise.

    rows: stop after so many rows and paint their estimate x0 of the result; None goes to the end.
    """
    one = _encoded(job)
    batch = Encoded.joined([one] * len(strengths), models.arrays)
    controls = np.repeat(np.array(strengths, np.float32), len(one))
    latents = _denoise(models, [job], batch, controls.tolist(), settings, run=run, rows=rows)
    parts = models.arrays.split(latents, [len(one)] * len(strengths))
    return [paint(models, job, part, settings) for part in parts]


def paint(models: Models, job: Job, latents: Any, settings: Settings) -> Painted:
    """Decodes a job's latents and pastes them, nearer hands over farther ones."""
    arrays = models.arrays
    with job.watch("decode"):
        colours = models.inpaint.decode(latents)
    with job.watch("paste"):
        if settings.faithful:
            changed = job.regions[0].mask.astype(np.uint8)
            return Painted(faithful.frame(arrays.get(arrays.item(colours, 0))), changed)
        pixels, changed = arrays.copy(job.canvas), arrays.zeros(job.picture.size)

        def nearness(at: int) -> float:
            return max((job.hands[k].apparent_scale for k in job.regions[at].hands), default=0.0)

        for at in sorted(range(len(job.regions)), key=nearness):
            region = job.regions[at]
            patch = arrays.item(colours, at)
            if settings.colour_match:
                original = arrays.look(job.canvas, [region.window], region.mask.shape)
                patch = arrays.match_colours(patch, arrays.item(original, 0), region.mask)
            blend(arrays, pixels, changed, region, patch)
        return Painted(arrays.get(pixels), changed)


def result(
    models: Models, job: Job, painted: Painted | None, strength: float, trials: Sequence[Trial] = ()
) -> Result:
    """What the caller gets; `painted` is None where there was nothing to do."""
    with job.watch("paste"):
        depth = models.arrays.get(job.shown)
        mask = np.zeros(job.picture.size, np.uint8) if painted is None else models.arrays.get(painted.changed)
        image = job.picture.unchanged() if painted is None else job.picture.rebuild(painted.pixels)
    status: Status = "refined" if painted is not None else "unchanged" if job.hands else "no_hand"
    return Result(
        image,
        status,
        hands=tuple(job.hands),
        depth=depth,
        mask=mask,
        strength=strength,
        trials=tuple(trials),
        seed=job.item.seed,
        timings=job.watch.timings(),
    )


def _encoded(job: Job) -> Encoded:
    assert job.encoded is not None, "a job without regions has nothing to denoise"
    return job.encoded


def _denoise(
    models: Models,
    jobs: Sequence[Job],
    batch: Encoded,
    strengths: Sequence[float],
    settings: Settings,
    *,
    run: int = 0,
    rows: int | None = None,
) -> Any:
    table, noise = jobs[0].table, _joined_noise(jobs, len(batch))
    if rows is not None and rows < len(table):
        table = table.first(rows)
        noise = None if noise is None else noise[: table.noise_streams]
    estimate: list[Floats] = []
    watching = _Watch(jobs, settings, len(batch), run, estimate if rows is not None else None)
    for job in jobs:
        job.watch.start("denoise")
    try:
        latents = models.inpaint.denoise(
            batch,
            table,
            strengths,
            noise=noise,
            reuse=settings.reuse,
            on_step=watching if watching.needed else None,
            cancel=jobs[0].item.cancel if len(jobs) == 1 else None,
        )
    finally:
        for job in jobs:
            job.watch.stop("denoise")
    return models.arrays.put(estimate[-1]) if estimate else latents


class _Watch:
    """What the loop's callback does: tells the caller, keeps x0, asks the tokens of several pictures."""

    def __init__(
        self, jobs: Sequence[Job], settings: Settings, hands: int, run: int, estimate: list[Floats] | None
    ) -> None:
        self._jobs, self._tell, self._hands, self._run = jobs, settings.on_step, hands, run
        self._estimate = estimate
        self._tokens = [job.item.cancel for job in jobs] if len(jobs) > 1 else []
        self._elapsed = 0.0

    @property
    def needed(self) -> bool:
        return self._tell is not None or self._estimate is not None or any(self._tokens)

    def __call__(self, info: _core.StepInfo) -> bool:
        self._elapsed += info.seconds
        if self._estimate is not None and info.step == info.steps - 1:
            self._estimate.append(np.array(info.x0))
        if self._tokens and all(token is not None and token.cancelled for token in self._tokens):
            return False
        if self._tell is None:
            return True
        at = self._jobs[0].item.index
        told = StepInfo(
            info.step, info.steps, info.timestep, self._elapsed, self._hands, at, self._run, info.x0
        )
        return self._tell(told) is not False


def _joined_noise(jobs: Sequence[Job], count: int) -> Floats | None:
    """The noise of a batch (K, count, 4, h, w): of its pictures in order, or of one picture repeated."""
    given = [job.noise for job in jobs if job.noise is not None]
    if not given:
        return None
    joined = np.concatenate(given, axis=1)
    return np.tile(joined, (1, count // joined.shape[1], 1, 1, 1))
