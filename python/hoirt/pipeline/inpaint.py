"""Regenerates a batch of regions: encode, the denoising loop, decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import BackendError, InputError
from hoirt.pipeline.regions import Region
from hoirt.pipeline.timings import Stopwatch

if TYPE_CHECKING:
    from hoirt._core import CancelToken, Network, StepInfo
    from hoirt.packs.manifest import VaeSettings
    from hoirt.schedules import StepTable

Floats = NDArray[np.float32]


class Inpainter:
    """Autoencoder, hint encoder and step network of a pack. Safe to share between threads."""

    def __init__(self, networks: Mapping[str, Network], vae: VaeSettings) -> None:
        """`networks` by role."""
        from hoirt import _core

        self._encoder = networks["vae_encoder"]
        self._decoder = networks["vae_decoder"]
        self._hint = networks["hint"]
        self._time = networks["time"]
        self._loop = _core.DenoiseLoop(networks["step"], timestep=None, control="control_scale")
        self._factor = vae.factor
        self._scaling = np.float32(vae.scaling_factor)

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        regions: Sequence[Region],
        *,
        table: StepTable,
        text: Floats,
        negative: Floats,
        strength: float,
        seeds: Sequence[int],
        noise: Floats | None,
        on_step: Callable[[StepInfo], bool] | None,
        cancel: CancelToken | None,
        watch: Stopwatch,
    ) -> Floats:
        """New colours (N, h, w, 3), float32 0..255, of `regions` of the RGB uint8 picture `pixels`.

        `text` and `negative` are contexts (1, T, K); `noise` is (K, N, 4, h / factor, w / factor) or None.
        """
        with watch("encode"):
            pictures = np.stack([region.window.look(pixels, region.mask.shape) for region in regions])
            known, masked = self._encode(pictures, np.stack([region.mask for region in regions]))
            mask = _latent_mask(regions, self._factor)
            depth = np.stack([region.depth for region in regions])[:, None].astype(np.float32) / np.float32(
                255
            )
            hint = self._hint.run({"depth": np.repeat(depth, 3, axis=1)})["hint"]
            time = self._time.run({"timestep": table.timestep.astype(np.float32)})["time"]
            check_noise(noise, (table.noise_streams, *known.shape))
        with watch("denoise"):
            result = self._loop.run(
                table,
                shape=known.shape,
                seeds=np.array(seeds, np.uint64),
                condition={
                    "context": text,
                    "hint": hint,
                    "inpaint": np.concatenate([mask, masked], axis=1),
                },
                uncondition={"context": negative},
                per_step={"time": time},
                control=strength,
                known=known,
                mask=mask,
                noise=noise,
                on_step=on_step,
                cancel=cancel,
            )
        with watch("decode"):
            decoded = self._decoder.run({"latents": result.latents / self._scaling})["image"]
            if not np.isfinite(decoded).all():
                raise BackendError("the networks returned NaN or infinity; try precision='fp32'")
            colours = np.clip((decoded.transpose(0, 2, 3, 1) + np.float32(1)) * np.float32(127.5), 0, 255)
            return np.ascontiguousarray(colours)

    def _encode(self, pictures: NDArray[np.uint8], holes: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Latents (N, 4, h, w) of the pictures and of the pictures with their holes grey: the posterior's
        mean.
        """
        images = pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1)
        both = np.concatenate([images, images * ~holes[:, None]])
        latents = self._encoder.run({"image": both})["mean"] * self._scaling
        return latents[: len(pictures)], latents[len(pictures) :]


def check_noise(noise: Floats | None, shape: tuple[int, ...]) -> None:
    """Raises InputError unless a caller's noise has the shape the step table consumes."""
    if noise is not None and noise.shape != shape:
        raise InputError(
            f"noise has shape {noise.shape}; this call needs {shape}: "
            "streams, regions, channels, height, width"
        )


def _latent_mask(regions: Sequence[Region], factor: int) -> Floats:
    """(N, 1, h / factor, w / factor): 1 where any pixel of the latent cell is regenerated."""
    masks: NDArray[np.bool_] = np.stack([region.mask for region in regions])
    count, height, width = masks.shape
    cells = masks.reshape(count, height // factor, factor, width // factor, factor)
    return np.asarray(cells.any(axis=(2, 4)), np.float32)[:, None]
