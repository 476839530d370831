"""HandRefiner's sampler as it was released, in torch: the oracle for hoirt's faithful mode.

Written from a description of what the released program does; it shares nothing with hoirt's pipeline and
schedules. Batch 1, float32. Quirks are kept and marked "released".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Image = NDArray[np.uint8]
Moments = Callable[[Tensor], tuple[Tensor, Tensor]]
Predict = Callable[[Tensor, Tensor, int, Tensor, Tensor, float], Tensor]

GUIDANCE = 9.0  # released: fixed in the program
GUESS_DECAY = 0.825


class Noise(Protocol):
    """Gives the standard normals of a run, one call for each draw, in the released order.

    Names in order: "masked" and "image" (the posteriors), "initial" (x_T), then at each step "known" (the
    known region) and "ddim" (times sigma, which is zero; drawn and without effect).
    """

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        """A draw (1, 4, h, w) float32."""


class SeededNoise:
    """A CPU generator that is seeded at the start and again before x_T, as released.

    There x_T and what follows come from the GPU's generator. With one kind of generator, as here, "initial"
    repeats the numbers of "masked".
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        if name == "initial":
            self._generator.manual_seed(self._seed)
        return torch.randn(tuple(shape), generator=self._generator)


class GivenNoise:
    """Arrays given by name; "known" holds one entry for each step and is read in order.

    masked, image, initial: (1, 4, h, w); known: (S, 1, 4, h, w). A new run starts again at "initial".
    """

    def __init__(self, **draws: NDArray[np.float32] | Tensor) -> None:
        self._draws = {name: torch.as_tensor(draw) for name, draw in draws.items()}
        self._step = 0

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        if name == "ddim":
            return torch.zeros(tuple(shape))
        if name == "initial":
            self._step = 0
        draw = self._draws[name]
        if name == "known":
            draw = draw[self._step]
            self._step += 1
        if draw.shape != torch.Size(shape):
            raise ValueError(f"noise {name} has shape {tuple(draw.shape)}, needed is {tuple(shape)}")
        return draw


class Schedule:
    """Scaled linear betas and DDIM's uniform timesteps, as released.

    Attributes:
        abar: (1000,) float32, cumulative products of 1 - beta, computed in float64.
        root, rest: float32 roots of abar and of 1 - abar, computed in float64.
        timesteps: (S',) from the noisiest to 1. S' is `steps` where that divides 1000; released: otherwise
            it may be larger, and if the first timestep would be 1000 the table ends before it: IndexError.
        previous: (S',) abar after each step; released: abar[0] after the last, not 1.
    """

    def __init__(self, steps: int, beta_start: float = 0.00085, beta_end: float = 0.012) -> None:
        betas = np.linspace(beta_start**0.5, beta_end**0.5, 1000, dtype=np.float64) ** 2
        abar = np.cumprod(1.0 - betas)
        self.abar = abar.astype(np.float32)
        self.root = np.sqrt(abar).astype(np.float32)
        self.rest = np.sqrt(1.0 - abar).astype(np.float32)
        rising = np.arange(0, 1000, 1000 // steps) + 1
        self.timesteps = rising[::-1].copy()
        self.signal = self.abar[rising][::-1].copy()
        self.previous = np.concatenate([self.abar[:1], self.abar[rising[:-1]]])[::-1].copy()

    def noised(self, clean: Tensor, timestep: int, noise: Tensor) -> Tensor:
        """q(x_t | x_0) with the given normals."""
        return float(self.root[timestep]) * clean + float(self.rest[timestep]) * noise

    def clean(self, index: int, x: Tensor, eps: Tensor) -> Tensor:
        """The estimate of x_0 at timesteps[index]; it is not clipped."""
        now = self.signal[index]
        return (x - float(np.sqrt(np.float32(1) - now)) * eps) / float(np.sqrt(now))

    def step(self, index: int, x: Tensor, eps: Tensor) -> Tensor:
        """One DDIM step of eta 0 from timesteps[index]."""
        after = self.previous[index]
        towards = float(np.sqrt(np.float32(1) - after)) * eps
        return float(np.sqrt(after)) * self.clean(index, x, eps) + towards


@dataclass(frozen=True)
class Networks:
    """The networks as callables on float32 tensors of batch 1.

    Attributes:
        moments: picture (1, 3, H, W) in -1..1 -> mean and log variance (1, 4, h, w) of the posterior.
        decode: latents (1, 4, h, w) divided by `scaling` -> picture (1, 3, H, W).
        text: ids (1, T) -> whatever `predict` takes as text.
        predict: x (1, 4, h, w), inpaint (1, 5, h, w), timestep, text, hint (1, 3, H, W), strength -> eps.
        scaling: the VAE's factor on latents.
    """

    moments: Moments
    decode: Callable[[Tensor], Tensor]
    text: Callable[[Tensor], Any]
    predict: Predict
    scaling: float


def control_scales(strength: float, count: int, guess_mode: bool = False) -> list[float]:
    """One scale for each residual (13 at full size), uniform; with guess mode the deepest is the largest."""
    if guess_mode:
        return [strength * GUESS_DECAY ** (count - 1 - k) for k in range(count)]
    return [strength] * count


def separate(
    controlnet: Callable[[Tensor, int, Tensor, Tensor], Sequence[Tensor]],
    unet: Callable[[Tensor, int, Tensor, Sequence[Tensor]], Tensor],
    guess_mode: bool = False,
) -> Predict:
    """`Networks.predict` of a ControlNet (x, t, text, hint) and a UNet (9 channels, t, text, controls).

    The ControlNet sees the noisy latents only; every residual is scaled, the middle one included.
    """

    def predict(x: Tensor, inpaint: Tensor, t: int, text: Tensor, hint: Tensor, strength: float) -> Tensor:
        controls = controlnet(x, t, text, hint)
        scales = control_scales(strength, len(controls), guess_mode)
        scaled = [control * scale for control, scale in zip(controls, scales, strict=True)]
        return unet(torch.cat([x, inpaint], dim=1), t, text, scaled)

    return predict


def torch_networks(modules: Mapping[str, Any], guess_mode: bool = False) -> Networks:
    """Networks of diffusers' and transformers' modules: unet, controlnet, vae, text_encoder."""
    unet_module, controlnet_module, vae = modules["unet"], modules["controlnet"], modules["vae"]

    def controlnet(x: Tensor, t: int, text: Tensor, hint: Tensor) -> Sequence[Tensor]:
        down, middle = controlnet_module(x, torch.tensor([t]), text, hint, return_dict=False)
        return [*down, middle]

    def unet(x: Tensor, t: int, text: Tensor, controls: Sequence[Tensor]) -> Tensor:
        eps: Tensor = unet_module(
            x,
            torch.tensor([t]),
            text,
            down_block_additional_residuals=list(controls[:-1]),
            mid_block_additional_residual=controls[-1],
        ).sample
        return eps

    def moments(image: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = vae.quant_conv(vae.encoder(image)).chunk(2, dim=1)
        return mean, logvar

    return Networks(
        moments,
        decode=lambda latents: vae.decode(latents).sample,
        text=lambda ids: modules["text_encoder"](input_ids=ids).last_hidden_state,
        predict=separate(controlnet, unet, guess_mode),
        scaling=float(vae.config.scaling_factor),
    )


@dataclass(frozen=True)
class Condition:
    """What every step of a run is given: known latents, inpainting channels, hint."""

    known: Tensor
    mask: Tensor
    inpaint: Tensor
    hint: Tensor


@torch.no_grad()
def encode_released(networks: Networks, image: Image, depth: Image, mask: Image, noise: Noise) -> Condition:
    """Latents of the picture and of the picture with a grey hole, both SAMPLED from their posteriors."""
    hole = torch.from_numpy(mask.astype(np.float32) / 255.0)[None, None]
    hole = (hole >= 0.5).float()
    source = torch.from_numpy(image.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]

    def sampled(picture: Tensor, name: str) -> Tensor:
        mean, logvar = networks.moments(picture)
        deviation = torch.exp(0.5 * logvar.clamp(-30.0, 20.0))
        return networks.scaling * (mean + deviation * noise(name, mean.shape))

    masked = sampled(source * (hole < 0.5), "masked")
    known = sampled(source, "image")
    # Released: nearest, so that the top-left pixel speaks for its latent cell.
    small = functional.interpolate(hole, size=masked.shape[-2:], mode="nearest")
    hint = torch.from_numpy(depth.astype(np.float32) / 255.0)[None, None].repeat(1, 3, 1, 1)
    return Condition(known, small, torch.cat([small, masked], dim=1), hint)


class Run(TypedDict):
    """A run: latents and estimates of x_0 (1, 4, h, w) at each step, and the picture (H, W, 3) uint8."""

    latents: list[Tensor]
    estimates: list[Tensor]
    image: Image


@torch.no_grad()
def sample_released(
    networks: Networks,
    condition: Condition,
    prompt: Tensor,
    negative: Tensor,
    *,
    strength: float,
    schedule: Schedule,
    noise: Noise,
    guidance: float = GUIDANCE,
) -> Run:
    """Masked DDIM of eta 0, decoded; the whole frame, nothing pasted.

    The known region is renoised at the CURRENT level before the network, x_T included; so the result of the
    last step is not masked.
    """
    positive, negative = networks.text(prompt), networks.text(negative)
    mask, known = condition.mask, condition.known
    x = noise("initial", known.shape)
    latents, estimates = [], []
    for index, t in enumerate(schedule.timesteps.tolist()):
        x = schedule.noised(known, t, noise("known", known.shape)) * (1.0 - mask) + mask * x
        with_text, without = (
            networks.predict(x, condition.inpaint, t, text, condition.hint, strength)
            for text in (positive, negative)
        )
        eps = without + guidance * (with_text - without)
        estimates.append(schedule.clean(index, x, eps))
        x = schedule.step(index, x, eps)
        latents.append(x)
        noise("ddim", known.shape)  # released: drawn, times a sigma of zero
    picture = networks.decode(x / networks.scaling)[0].permute(1, 2, 0)
    cut = (picture * 127.5 + 127.5).clamp(0.0, 255.0).numpy().astype(np.uint8)
    return Run(latents=latents, estimates=estimates, image=cut)


def run_released(
    image: Image,
    depth: Image,
    mask: Image,
    *,
    networks: Networks,
    prompt: Tensor,
    negative: Tensor,
    strength: float,
    steps: int,
    noise: Noise,
    guidance: float = GUIDANCE,
    schedule: Schedule | None = None,
) -> Run:
    """One picture: uint8 image (H, W, 3), depth (H, W) 0..255, mask (H, W) 0 or 255; ids (1, T)."""
    condition = encode_released(networks, image, depth, mask, noise)
    return sample_released(
        networks,
        condition,
        prompt,
        negative,
        strength=strength,
        schedule=schedule or Schedule(steps),
        noise=noise,
        guidance=guidance,
    )


STRENGTHS = (1.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOLERANCE = 1.15


@dataclass(frozen=True, eq=False)
class Adaptive:
    """What the adaptive procedure gives.

    Attributes:
        tried: strength -> pose error, of every run made, in order.
        strength, error: what is logged; the paper's choice too.
        chosen: the picture of that strength, which the paper's pseudo-code returns.
        saved: the picture that the released program writes: the LAST one made, whichever was chosen.
    """

    tried: dict[float, float]
    strength: float
    error: float
    chosen: Any
    saved: Any


def adaptive_released(sample: Callable[[float], Any], error: Callable[[Any], float]) -> Adaptive:
    """Tries 1.0, then 0.4 upwards until the error is below 1.15 times that at 1.0.

    sample: strength -> picture, each with the same noise. error: picture -> pose error in pixels.
    """
    tried: dict[float, float] = {}
    reference = picture = None
    for strength in STRENGTHS:
        picture = sample(strength)
        tried[strength] = error(picture)
        if reference is None:
            reference = picture
        elif tried[strength] < TOLERANCE * tried[1.0]:
            return Adaptive(tried, strength, tried[strength], picture, picture)
    return Adaptive(tried, 1.0, tried[1.0], reference, picture)
