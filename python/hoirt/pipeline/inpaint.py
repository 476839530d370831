"""Regenerates a batch of regions: encode, the denoising loop, decode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import BackendError, InputError
from hoirt.pipeline.regions import Region
from hoirt.pipeline.text import Prompt

if TYPE_CHECKING:
    from hoirt._core import CancelToken, DenoiseLoop, Network, StepInfo
    from hoirt.packs.manifest import VaeSettings
    from hoirt.schedules import StepTable

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A batch of N regions, ready for the loop.

    Attributes:
        known: (N, 4, h, w) latents of the pictures. inpaint: (N, 5, h, w) mask and latents of the pictures
            with their holes grey. hint: (N, C, h, w). text, negative: prompts of N items. seeds: N of them.
        size: (height, width) of a region in pixels.
    """

    known: Floats
    inpaint: Floats
    hint: Floats
    text: tuple[Prompt, ...]
    negative: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    size: tuple[int, int]

    @property
    def mask(self) -> Floats:
        """(N, 1, h, w), 1 = regenerate."""
        return self.inpaint[:, :1]

    def __len__(self) -> int:
        return len(self.known)

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """The batches behind one another; their sizes must agree."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            known=np.concatenate([part.known for part in parts]),
            inpaint=np.concatenate([part.inpaint for part in parts]),
            hint=np.concatenate([part.hint for part in parts]),
            text=tuple(prompt for part in parts for prompt in part.text),
            negative=tuple(prompt for part in parts for prompt in part.negative),
            seeds=tuple(seed for part in parts for seed in part.seeds),
            size=parts[0].size,
        )


class Inpainter:
    """Autoencoder, hint encoder and step network of a pack. Safe to share between threads."""

    def __init__(
        self, networks: Mapping[str, Network], vae: VaeSettings, open_variant: Callable[[str], Network]
    ) -> None:
        """`networks` by role. open_variant: opens a variant of the step by its role, or raises InputError."""
        from hoirt import _core

        self._encoder = networks["vae_encoder"]
        self._decoder = networks["vae_decoder"]
        self._hint = networks["hint"]
        self._time = networks["time"]
        self._pooled = any(port.name == "pooled" for port in self._time.inputs)
        self._takes_inpaint = any(port.name == "inpaint" for port in networks["step"].inputs)
        self._open_variant = open_variant
        self._loops: dict[str | None, _core.DenoiseLoop] = {
            None: _core.DenoiseLoop(networks["step"], timestep=None, control="control_scale")
        }
        self._lock = threading.Lock()
        self.factor = vae.factor
        self._scaling = np.float32(vae.scaling_factor)

    def encode(
        self,
        pixels: NDArray[np.uint8],
        regions: Sequence[Region],
        *,
        text: Prompt,
        negative: Prompt,
        seeds: Sequence[int],
        posterior: tuple[Floats, Floats] | None = None,
    ) -> Encoded:
        """Latents, masks and hints of `regions` of the RGB uint8 picture `pixels`.

        posterior: standard normals (N, 4, h, w) for the latents of the masked pictures and of the pictures,
            which are then samples of the autoencoder's posterior, and the mask is its nearest pixel, both as
            released; None takes the posterior's mean and every latent cell that the mask touches.
        """
        pictures = np.stack([region.window.look(pixels, region.mask.shape) for region in regions])
        holes = np.stack([region.mask for region in regions])
        images = pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1)
        moments = self._encoder.run({"image": np.concatenate([images * ~holes[:, None], images])})
        latents = moments["mean"]
        if posterior is not None:
            latents = latents + np.exp(np.float32(0.5) * moments["logvar"]) * np.concatenate(posterior)
        latents = latents * self._scaling
        mask = _touched(holes, self.factor) if posterior is None else _nearest(holes, self.factor)
        depth = np.stack([region.depth for region in regions])[:, None].astype(np.float32) / np.float32(255)
        count = len(regions)
        return Encoded(
            known=latents[count:],
            inpaint=np.concatenate([mask, latents[:count]], axis=1),
            hint=self._hint.run({"depth": np.repeat(depth, 3, axis=1)})["hint"],
            text=(text,) * count,
            negative=(negative,) * count,
            seeds=tuple(seeds),
            size=(pictures.shape[1], pictures.shape[2]),
        )

    def denoise(
        self,
        batch: Encoded,
        table: StepTable,
        strengths: Sequence[float],
        *,
        noise: Floats | None = None,
        reuse: str | None = None,
        on_step: Callable[[StepInfo], Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> Floats:
        """Latents (N, 4, h, w) of the batch, item i under control strength `strengths[i]`.

        `noise` is (K, N, 4, h, w) for the K streams of the table, or None to draw from the seeds. `reuse`:
        the kind of features that the table's reuse rows take from earlier ones.
        """
        condition = {"context": _stacked(batch.text), "hint": batch.hint}
        if self._takes_inpaint:
            condition["inpaint"] = batch.inpaint
        times: dict[str, Any] = {"per_step": {"time": self._times(batch.text, table, batch.size)}}
        if self._pooled and table.guided:
            times["per_step_uncondition"] = {"time": self._times(batch.negative, table, batch.size)}
        result = self._loop(reuse if table.reuse.any() else None).run(
            table,
            shape=batch.known.shape,
            seeds=np.array(batch.seeds, np.uint64),
            condition=condition,
            uncondition={"context": _stacked(batch.negative)},
            control=np.array(strengths, np.float32),
            known=batch.known,
            mask=batch.mask,
            noise=noise,
            on_step=on_step,
            cancel=cancel,
            **times,
        )
        return np.asarray(result.latents)

    def decode(self, latents: Floats) -> Floats:
        """Colours (N, H, W, 3), float32 0..255, of latents (N, 4, h, w)."""
        decoded = self._decoder.run({"latents": latents / self._scaling})["image"]
        if not np.isfinite(decoded).all():
            raise BackendError("the networks returned NaN or infinity; try precision='fp32'")
        colours = np.clip(decoded.transpose(0, 2, 3, 1) * np.float32(127.5) + np.float32(127.5), 0, 255)
        return np.ascontiguousarray(colours)

    def _loop(self, reuse: str | None) -> DenoiseLoop:
        """The loop of a kind of reuse; its networks are opened when it is first asked for."""
        from hoirt import _core

        with self._lock:
            if reuse not in self._loops:
                keep, shallow = (self._open_variant(role) for role in ("step_keep", f"step_reuse_{reuse}"))
                self._loops[reuse] = _core.DenoiseLoop(
                    keep, timestep=None, control="control_scale", reuse=shallow
                )
            return self._loops[reuse]

    def _times(self, prompts: Sequence[Prompt], table: StepTable, size: tuple[int, int]) -> Floats:
        """Time projections (S, E); where they depend on the prompt (SDXL), (S, N, E)."""
        steps = table.timestep.astype(np.float32)
        if not self._pooled:
            return self._time.run({"timestep": steps})["time"]
        # Original size, crop's corner and target size, as SDXL was trained: a region is a picture of its own.
        ids = np.tile(np.array([*size, 0, 0, *size], np.float32), (len(steps), 1))
        known: dict[int, Floats] = {}
        for prompt in prompts:
            if id(prompt) not in known:
                assert prompt.pooled is not None, (
                    "a pack whose times take it has a text encoder that gives it"
                )
                pooled = np.repeat(prompt.pooled, len(steps), axis=0)
                known[id(prompt)] = self._time.run({"timestep": steps, "pooled": pooled, "time_ids": ids})[
                    "time"
                ]
        return np.stack([known[id(prompt)] for prompt in prompts], axis=1)


def check_noise(noise: Floats | None, shape: tuple[int, ...]) -> None:
    """Raises InputError unless a caller's noise has the shape the step table consumes."""
    if noise is not None and noise.shape != shape:
        raise InputError(
            f"noise has shape {noise.shape}; this call needs {shape}: "
            "streams, regions, channels, height, width"
        )


def _stacked(prompts: Sequence[Prompt]) -> Floats:
    """Contexts (N, T, K), or (1, T, K) if all items have the same prompt."""
    if all(prompt is prompts[0] for prompt in prompts):
        return prompts[0].context
    return np.concatenate([prompt.context for prompt in prompts])


def _touched(holes: NDArray[np.bool_], factor: int) -> Floats:
    """(N, 1, h / factor, w / factor): 1 where any pixel of the latent cell is regenerated."""
    count, height, width = holes.shape
    cells = holes.reshape(count, height // factor, factor, width // factor, factor)
    return np.asarray(cells.any(axis=(2, 4)), np.float32)[:, None]


def _nearest(holes: NDArray[np.bool_], factor: int) -> Floats:
    """(N, 1, h / factor, w / factor): the top-left pixel of each latent cell."""
    return np.ascontiguousarray(holes[:, ::factor, ::factor], np.float32)[:, None]
