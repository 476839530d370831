"""Regenerates a batch of regions: encode, the denoising loop, decode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.backends import idle
from hoirt.errors import BackendError, InputError
from hoirt.pipeline.regions import Region
from hoirt.pipeline.text import Prompt

if TYPE_CHECKING:
    from hoirt._core import CancelToken, DenoiseLoop, Network, StepInfo
    from hoirt.packs.manifest import VaeSettings
    from hoirt.pipeline.arrays import Arrays
    from hoirt.schedules import StepTable

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A batch of N regions, ready for the loop.

    Attributes:
        known: (N, 4, h, w) latents of the pictures. inpaint: (N, 5, h, w) mask and latents of the pictures
            with their holes grey. hint: (N, C, h, w). mask: (N, 1, h, w), 1 = regenerate. text, negative:
            prompts of N items. seeds: N of them. size: (height, width) of a region in pixels.
    """

    known: Any
    inpaint: Any
    hint: Any
    mask: Any
    text: tuple[Prompt, ...]
    negative: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return int(self.known.shape[0])

    @classmethod
    def joined(cls, parts: Sequence[Encoded], arrays: Arrays) -> Encoded:
        """The batches behind one another; their sizes must agree."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            known=arrays.join([part.known for part in parts]),
            inpaint=arrays.join([part.inpaint for part in parts]),
            hint=arrays.join([part.hint for part in parts]),
            mask=arrays.join([part.mask for part in parts]),
            text=tuple(prompt for part in parts for prompt in part.text),
            negative=tuple(prompt for part in parts for prompt in part.negative),
            seeds=tuple(seed for part in parts for seed in part.seeds),
            size=parts[0].size,
        )


class Inpainter:
    """Autoencoder, hint encoder and step network of a pack. Safe to share between threads."""

    def __init__(
        self,
        networks: Mapping[str, Network],
        vae: VaeSettings,
        open_variant: Callable[[str], Network],
        arrays: Arrays,
    ) -> None:
        """`networks` by role. open_variant: opens a variant of the step by its role, or raises InputError.

        arrays: where the networks run.
        """
        self._arrays = arrays
        self._encoder = networks["vae_encoder"]
        self._decoder = networks["vae_decoder"]
        self._hint = networks["hint"]
        self._time = networks["time"]
        self._pooled = any(port.name == "pooled" for port in self._time.inputs)
        self._takes_inpaint = any(port.name == "inpaint" for port in networks["step"].inputs)
        self._open_variant = open_variant
        self._loops: dict[str | None, DenoiseLoop] = {None: self._make_loop(networks["step"])}
        self._lock = threading.Lock()
        self.factor = vae.factor
        self._scaling = vae.scaling_factor

    def encode(
        self,
        picture: Any,
        regions: Sequence[Region],
        *,
        text: Prompt,
        negative: Prompt,
        seeds: Sequence[int],
        posterior: tuple[Floats, Floats] | None = None,
    ) -> Encoded:
        """Latents, masks and hints of `regions` of the RGB uint8 `picture` (H, W, 3), which `arrays` holds.

        posterior: standard normals (N, 4, h, w) for the latents of the masked pictures and of the pictures,
            which are then samples of the autoencoder's posterior, and the mask is its nearest pixel, both as
            released; None takes the posterior's mean and every latent cell that the mask touches.
        """
        arrays, count = self._arrays, len(regions)
        holes = arrays.stack([region.mask for region in regions])
        size = (holes.shape[1], holes.shape[2])
        pictures = arrays.look(picture, [region.window for region in regions], size)
        moments = self._encoder.run({"image": arrays.planes(pictures, holes)})
        noise = None if posterior is None else np.concatenate(posterior)
        latents = arrays.sample(moments["mean"], moments["logvar"], noise, self._scaling)
        masked, known = arrays.split(latents, [count, count])
        if posterior is None:
            mask = arrays.touched(holes, self.factor)
        else:
            mask = arrays.put(_nearest(np.stack([region.mask for region in regions]), self.factor))
        depths = arrays.hint(arrays.stack([region.depth for region in regions]))
        return Encoded(
            known=known,
            inpaint=arrays.join([mask, masked], axis=1),
            hint=self._hint.run({"depth": depths})["hint"],
            mask=mask,
            text=(text,) * count,
            negative=(negative,) * count,
            seeds=tuple(seeds),
            size=size,
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
    ) -> Any:
        """Latents (N, 4, h, w) of the batch, item i under control strength `strengths[i]`.

        `noise` is (K, N, 4, h, w) for the K streams of the table, or None to draw from the seeds. `reuse`:
        the kind of features that the table's reuse rows take from earlier ones.
        """
        condition = {"context": self._stacked(batch.text), "hint": batch.hint}
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
            uncondition={"context": self._stacked(batch.negative)},
            control=np.array(strengths, np.float32),
            known=batch.known,
            mask=batch.mask,
            noise=noise,
            on_step=on_step,
            cancel=cancel,
            **times,
        )
        return result.latents

    def decode(self, latents: Any) -> Any:
        """Colours (N, H, W, 3), float32 0..255, of latents (N, 4, h, w)."""
        decoded = self._decoder.run({"latents": self._arrays.unscaled(latents, self._scaling)})["image"]
        if not self._arrays.finite(decoded):
            raise BackendError("the networks returned NaN or infinity; try precision='fp32'")
        return self._arrays.colours(decoded)

    def _loop(self, reuse: str | None) -> DenoiseLoop:
        """The loop of a kind of reuse; its networks are opened when it is first asked for."""
        with self._lock:
            if reuse not in self._loops:
                keep, shallow = (self._open_variant(role) for role in ("step_keep", f"step_reuse_{reuse}"))
                self._loops[reuse] = self._make_loop(keep, shallow)
            return self._loops[reuse]

    def _make_loop(self, network: Network, reuse: Network | None = None) -> DenoiseLoop:
        from hoirt import _core

        device = self._arrays.device
        loop = _core.DenoiseLoop(network, timestep=None, control="control_scale", reuse=reuse, device=device)
        if device is not None:
            idle.keeps_loop(device, loop)
        return loop

    def unload(self) -> None:
        """Frees what the loops keep between calls."""
        with self._lock:
            for loop in self._loops.values():
                loop.unload()

    def _times(self, prompts: Sequence[Prompt], table: StepTable, size: tuple[int, int]) -> Any:
        """Time projections (S, E); where they depend on the prompt (SDXL), (S, N, E)."""
        steps = table.timestep.astype(np.float32)
        if not self._pooled:
            return self._time.run({"timestep": steps})["time"]
        # Original size, crop's corner and target size, as SDXL was trained: a region is a picture of its own.
        ids = np.tile(np.array([*size, 0, 0, *size], np.float32), (len(steps), 1))
        known: dict[int, Any] = {}
        for prompt in prompts:
            if id(prompt) not in known:
                assert prompt.pooled is not None, (
                    "a pack whose times take it has a text encoder that gives it"
                )
                pooled = np.repeat(self._arrays.get(prompt.pooled), len(steps), axis=0)
                times = self._time.run({"timestep": steps, "pooled": pooled, "time_ids": ids})["time"]
                known[id(prompt)] = times.reshape((len(steps), 1, times.shape[1]))
        return self._arrays.join([known[id(prompt)] for prompt in prompts], axis=1)

    def _stacked(self, prompts: Sequence[Prompt]) -> Any:
        """Contexts (N, T, K), or (1, T, K) if all items have the same prompt."""
        if all(prompt is prompts[0] for prompt in prompts):
            return prompts[0].context
        return self._arrays.join([prompt.context for prompt in prompts])


def check_noise(noise: Floats | None, shape: tuple[int, ...]) -> None:
    """Raises InputError unless a caller's noise has the shape the step table consumes."""
    if noise is not None and noise.shape != shape:
        raise InputError(
            f"noise has shape {noise.shape}; this call needs {shape}: "
            "streams, regions, channels, height, width"
        )


def _nearest(holes: NDArray[np.bool_], factor: int) -> Floats:
    """(N, 1, h / factor, w / factor): the top-left pixel of each latent cell."""
    return np.ascontiguousarray(holes[:, ::factor, ::factor], np.float32)[:, None]
