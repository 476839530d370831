"""Refiner: a pack with its networks open, ready to repair the hands of pictures."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np

from hoirt.errors import InputError
from hoirt.hands.hand import Hand
from hoirt.imaging import load
from hoirt.imaging.arrays import as_numpy
from hoirt.memory import with_memory
from hoirt.pipeline.batches import refine_all, refine_one
from hoirt.pipeline.models import Models
from hoirt.pipeline.options import (
    ImageLike,
    Item,
    RefineOptions,
    check_cancel,
    check_seed,
    check_settings,
    check_strength,
    check_text,
    spread,
)
from hoirt.pipeline.result import Result, StepInfo
from hoirt.pipeline.timings import Stopwatch
from hoirt.schedules.options import number

if TYPE_CHECKING:
    from hoirt._core import CancelToken


class Refiner:
    """Repairs malformed hands in pictures.

    Opening reads and, the first time, compiles the networks; one Refiner then serves any number of calls,
    from any number of threads at once.
    """

    def __init__(
        self,
        pack: str | os.PathLike[str] = "handrefiner-tiny",
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        backend: str = "auto",
        cache: bool = True,
        landmarker: str | os.PathLike[str] | None = None,
    ) -> None:
        """Opens a pack.

        Args:
            pack: name of a bundled pack, or a pack folder.
            device: "cpu", "cuda", "cuda:1", or "auto": CUDA if a device works and a backend can run the pack
                there, else the CPU; see `backend_reasons`.
            precision: of the networks' arithmetic: "fp32", "bf16", "fp16", "fp8" or "int8"; an error where
                the machine cannot, and int8 where the pack is not quantised. "auto" takes the fastest of fp32
                and what the pack names; with the bundled pack that is bf16 on a processor that multiplies
                it (AVX512-BF16), else fp32.
            threads: CPU threads of one network, 1..1024; None uses all cores, and more are never started.
            backend: "auto", or a name that `hoirt.doctor()` lists, which is taken or refused, never replaced.
            cache: keep compiled networks on disk, so that the next Refiner opens in under a second.
            landmarker: mediapipe's `hand_landmarker.task`, which then finds the hands; None takes the pack's,
                or else the pack's detector. Needs `pip install 'hoirt[mediapipe]'`.

        Raises:
            PackError: the pack is missing, damaged or of another task.
            BackendError: no backend can run it; the message says why for each.
        """
        self._begin(
            partial(
                Models,
                pack,
                device=device,
                precision=precision,
                threads=threads,
                backend=backend,
                cache=cache,
                landmarker=landmarker,
            )
        )

    def _begin(self, open_models: Callable[[], Models]) -> None:
        self._open = open_models
        self._lock = threading.Lock()
        self._opened: Models | None = self._open()

    @classmethod
    def _of(cls, open_models: Callable[[], Models]) -> Refiner:
        """One whose networks are opened in another way."""
        refiner = cls.__new__(cls)
        refiner._begin(open_models)
        return refiner

    @property
    def _models(self) -> Models:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def unload(self) -> None:
        """Closes the networks and gives their memory back, that of a GPU too; the next call opens them again.

        A call that is under way in another thread ends unharmed and frees what it uses then.
        """
        with self._lock:
            models, self._opened = self._opened, None
        if models is None:
            return
        device = models.arrays.device
        models.inpaint.unload()
        del models  # the last use closes the networks
        if device is not None:
            device.trim()

    @property
    def pack(self) -> str:
        """Name and version of the open pack."""
        return self._models.title

    @property
    def backend(self) -> str:
        """Name of the runtime that runs the networks."""
        return self._models.backend

    @property
    def device(self) -> str:
        """Where the networks run: "cpu", or "cuda:" and an index."""
        return self._models.device

    @property
    def backend_reasons(self) -> dict[str, str]:
        """Why the backends that "auto" tried first were not taken; "cuda": why no CUDA device was."""
        return dict(self._models.backend_reasons)

    @property
    def precision(self) -> str:
        """Of the networks' arithmetic; what "auto" chose."""
        return self._models.precision

    def __repr__(self) -> str:
        return f"Refiner({self.pack!r}, backend={self.backend!r}, precision={self.precision!r})"

    @overload
    def __call__(
        self, image: list[ImageLike] | tuple[ImageLike, ...], **options: Unpack[RefineOptions]
    ) -> list[Result]: ...

    @overload
    def __call__(self, image: ImageLike, **options: Unpack[RefineOptions]) -> Result: ...

    def __call__(
        self,
        image: Any,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] | None = None,
        hands: Any = None,
        mask: Any = None,
        depth: Any = None,
        strength: float | str | Sequence[float | str] = 0.55,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | Mapping[str, Any] | None = None,
        seed: int | Sequence[int] = 0,
        noise: Any = None,
        region: str | None = None,
        faithful: bool = False,
        preview: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        reuse: str | None = None,
        reuse_every: int = 2,
        colour_match: bool = True,
        batch: int = 1,
        on_step: Callable[[StepInfo], bool | None] | None = None,
        cancel: CancelToken | Sequence[CancelToken | None] | None = None,
    ) -> Result | list[Result]:
        """Repairs the hands of one picture, or of each in a list.

        For a list, every argument marked * may be a list too, with an entry per picture; a picture that fails
        gives a Result with status "error" and does not stop the others.

        Args:
            image: path, PIL image of any mode, NumPy array or DLPack tensor on the CPU: (H, W), (H, W, 1),
                (H, W, 3) or (H, W, 4), RGB(A); uint8, uint16, bool or float 0..1; sides 1..8192.
            prompt: * what the picture shows, such as "an open palm".
            negative_prompt: * what it shall not show; None takes the pack's.
            hands: * which hands, or where they are. None or "all": every detected one; "malformed": those
                whose `Hand.malformed` exceeds 0.5; or a list of indices into what `detect` gives, boxes (x0,
                y0, x1, y1), keypoints (21, 2) in pixels, masks (H, W), Hand objects. [] is no hand.
            mask: * (H, W), 1 = regenerate; replaces the mask made from the hands. Hands outside it stay.
            depth: * (H, W) uint8, 255 near .. 51 far, 0 background; replaces the rendered depth. Where no
                hand is found, the region is taken from `depth` and `mask`.
            strength: * how firmly the depth is obeyed, 0..1.5; or "adaptive": the weakest of 0.4 .. 0.9 whose
                hands follow their meshes nearly as well as at 1.0 (2 to 7 runs, see `Result.trials`).
            steps: denoising steps, 1..1000; None takes the pack's (50 with faithful=True).
            guidance: classifier-free guidance scale, 0..100; 1 runs no unconditional pass; None takes the
                pack's (9 with faithful=True).
            scheduler: None takes the pack's; a diffusers class name, or its start ("DPMSolver"); or a config.
            seed: * 0 .. 2**64 - 1. Hand k of a picture draws from seed + k * 2**32 (mod 2**64), so a hand's
                result depends neither on the other hands nor on the other pictures.
            noise: * (K, N, 4, h, w) float32 standard normals used instead of the seed, for N regions;
                `hoirt.schedules` documents the K streams, `docs/handrefiner.md` those of faithful=True.
            region: "crop" (default): a square around each hand, or around hands that cover each other;
                "frame": the whole picture at once, as in the paper.
            faithful: the released HandRefiner step by step: whole frame, rectangular mask, sampled posterior,
                50 steps of its DDIM, guidance 9; gives back the whole decoded picture. Sides must be
                multiples of the pack's size_multiple.
            preview: with strength "adaptive", judge from the estimate at this fraction 0.05..0.95 of the
                steps, and run only the chosen strength to the end; cheaper, and not always the same choice.
            guidance_interval: (start, end), fractions 0..1 of the steps; guidance only there.
            reuse: "control" or "deep": take what the ControlNet, or the deep layers too, gave in an earlier
                step, in all but every `reuse_every`-th step; faster, not the same picture.
            reuse_every: 1..1000, with `reuse`.
            colour_match: take out the shift of colours that the decoder leaves around the hole.
            batch: pictures of a list that share one run of the loop, 1..64.
            on_step: called with a StepInfo after every step; returning False cancels the whole call. Where a
                GPU has too little memory, what is kept there for later calls is given back and the steps
                begin again.
            cancel: a token that another thread may cancel. A list of tokens, one per picture (or None),
                cancels pictures by themselves: such a Result has status "cancelled".

        Raises:
            InputError: an argument cannot be right; for a single picture also the picture itself.
            OutOfMemory: for a single picture.
            Cancelled: by `on_step` or `cancel`.
        """
        settings = check_settings(
            self._models.settings,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            region=region,
            faithful=faithful,
            preview=preview,
            guidance_interval=guidance_interval,
            reuse=reuse,
            reuse_every=reuse_every,
            colour_match=colour_match,
            batch=batch,
            on_step=on_step,
        )
        if not isinstance(strength, list | tuple):
            strength = check_strength(strength)
        if not isinstance(cancel, list | tuple):
            cancel = check_cancel(cancel)
        per_image = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "hands": hands,
            "mask": mask,
            "depth": depth,
            "strength": strength,
            "seed": seed,
            "noise": noise,
            "cancel": cancel,
        }
        if isinstance(image, list | tuple):
            own_tokens = isinstance(cancel, list | tuple)
            return refine_all(
                self._models, spread(image, **per_image), self._checked, settings, own_tokens=own_tokens
            )
        return refine_one(self._models, self._checked(Item(index=0, image=image, **per_image)), settings)

    def detect(
        self,
        image: ImageLike,
        *,
        hands: Any = None,
        threshold: float | None = None,
        tiles: Literal["auto"] | bool = "auto",
    ) -> list[Hand]:
        """The hands of one picture with their meshes, best first, at most 64.

        Args:
            image: as in the call.
            hands: as in the call; None and "all" detect.
            threshold: lowest confidence 0..1; None takes the pack's.
            tiles: True searches the picture in overlapping tiles as well, so that small hands are found;
                "auto" does where the longer side is 480 pixels or more (2.5 times the detector's input).

        Raises:
            InputError: the picture or an argument cannot be right.
        """
        lowest = None if threshold is None else number("threshold", threshold, 0.0, 1.0)
        models = self._models
        find = partial(models.find, load(image).pixels, hands, Stopwatch(), lowest, tiles)
        return with_memory(models.arrays.device, find)

    def _checked(self, item: Item) -> Item:
        """The item with everything checked that needs no picture."""
        negative = item.negative_prompt
        if negative is None:
            negative = self._models.settings.negative_prompt
        return replace(
            item,
            prompt=check_text(item.prompt, "prompt"),
            negative_prompt=check_text(negative, "negative_prompt"),
            strength=check_strength(item.strength),
            seed=check_seed(item.seed),
            noise=_check_noise(item.noise),
            cancel=check_cancel(item.cancel),
        )


def _check_noise(noise: Any) -> Any:
    if noise is None:
        return None
    values = as_numpy(noise, "noise")
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise InputError(f"noise must hold finite floats, not {values.dtype} with NaN, infinity or integers")
    return np.ascontiguousarray(values, np.float32)
