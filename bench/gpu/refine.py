"""A whole refine at 512 x 512 with random weights: picture to latents, 20 guided steps, latents to picture.

Left out on both sides is what runs once in some milliseconds or on the CPU: finding hands, rendering the
depth map, text to states. All between the upload of the picture and the download of the result is on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gpu import networks, peers
from bench.gpu.networks import GUIDANCE, SCHEDULER, STEPS, Networks, array
from bench.gpu.session import Session
from bench.gpu.vae import Vae

SCALING = 0.18215
Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # (known, mask, inpaint) -> latents


class Pipeline:
    """Autoencoder around a way of denoising."""

    def __init__(self, session: Session, found: Networks) -> None:
        from hoirt import schedules

        self.session, self.networks = session, found
        torch.manual_seed(1)
        channels, groups = ((16, 16, 16, 16), 8) if session.tiny else ((128, 256, 512, 512), 32)
        with torch.device(session.device):
            self.vae = Vae(channels, groups).to(found.kind).eval().requires_grad_(False)
        if session.on_gpu:
            self.vae = self.vae.to(memory_format=torch.channels_last)
        self.table = schedules.build(SCHEDULER, STEPS, guidance=GUIDANCE, known_region=True)
        side = 8 * found.job.side
        rng = np.random.default_rng(0)
        self.picture = torch.from_numpy(rng.integers(0, 256, (1, side, side, 3), np.uint8))
        self.hole = torch.zeros(1, 1, side, side)
        self.hole[..., side // 4 : side // 2, side // 4 : side // 2] = 1

    def __call__(self, denoise: Denoise) -> Tensor:
        """The repaired picture, uint8 (1, H, W, 3) on the CPU; one upload, one download."""
        device, kind = self.session.device, self.networks.kind
        with torch.inference_mode():
            picture = self.picture.to(device, non_blocking=True).permute(0, 3, 1, 2).to(kind) / 127.5 - 1
            hole = self.hole.to(device, non_blocking=True).to(kind)
            masked, known = (SCALING * self.vae.encode(torch.cat([picture * (1 - hole), picture]))).chunk(2)
            mask = torch.nn.functional.max_pool2d(hole, 8)
            latents = denoise(known.float().contiguous(), mask.float(), torch.cat([mask, masked], 1).float())
            out = self.vae.decode((latents / SCALING).to(kind))
            colours = (out.float() * 127.5 + 127.5).round().clamp(0, 255)
            inside = torch.where(hole.bool(), colours, (picture.float() + 1) * 127.5)
            return inside.to(torch.uint8).permute(0, 2, 3, 1).cpu()

    def by_hoirt(self) -> Denoise:
        loop = self.networks.loop(self.networks.fastest)
        request = self.networks.request(self.table)

        def denoise(known: Tensor, mask: Tensor, inpaint: Tensor) -> Tensor:
            request["condition"]["inpaint"] = array(inpaint.contiguous())
            result = loop.run(self.table, **request, known=array(known), mask=array(mask.contiguous()))
            return torch.from_dlpack(result.latents)

        return denoise

    def by_torch(self, step: Callable[..., Any]) -> Denoise:
        """The same rows of the step table in torch, as a scheduler's step would do them."""
        columns = {name: np.asarray(getattr(self.table, name)).tolist() for name in "ABCDGH"}
        known_rows = np.asarray(self.table.known).tolist()
        _, timestep, text, depth, _, scale = self.networks.inputs
        kind = self.networks.kind

        def denoise(known: Tensor, mask: Tensor, inpaint: Tensor) -> Tensor:
            generator = torch.Generator(known.device).manual_seed(0)
            x = torch.randn(known.shape, generator=generator, device=known.device)
            both = torch.cat([inpaint, inpaint]).to(kind)
            for i, time in enumerate(np.asarray(self.table.timestep).tolist()):
                a, b, c, d, g, h = (columns[name][i] for name in "ABCDGH")
                sample = torch.cat([x, x]).to(kind)
                out = step(sample, torch.full_like(timestep, time), text, depth, both, scale).float()
                without, with_text = out.chunk(2)
                out = without + GUIDANCE * (with_text - without)
                x = c * x + d * (a * x + b * out)
                if known_rows[i]:
                    noise = torch.randn(x.shape, generator=generator, device=x.device)
                    x = mask * x + (1 - mask) * (g * known + h * noise)
            return x

        return denoise


def run(session: Session) -> None:
    if "step" not in session.shared:
        with session.attempt("refine", "networks"):
            session.shared["step"] = Networks(session, networks.job_of("step", session.tiny))
    if "step" not in session.shared:
        return
    found: Networks = session.shared["step"]
    with session.attempt("refine", "pipeline"):
        pipeline = Pipeline(session, found)
        session.shared["refine"] = pipeline
    if "refine" not in session.shared:
        return
    rounds = 1 if session.tiny else 3
    with session.attempt("refine", "hoirt"):
        denoise = pipeline.by_hoirt()
        session.add("refine", "hoirt", session.measure(lambda: pipeline(denoise), rounds))
    with session.attempt("refine", "torch eager"):
        eager = pipeline.by_torch(found.whole)
        session.add("refine", "torch eager", session.measure(lambda: pipeline(eager), rounds))
    if not session.on_gpu:
        session.add("refine", "torch.compile", note="not measured on a CPU")
    else:
        _measure_compiled(session, pipeline, rounds)
    session.ratios("refine", "hoirt")


def _measure_compiled(session: Session, pipeline: Pipeline, rounds: int) -> None:
    """In the mode of hoirt's own packages."""
    found = pipeline.networks
    tuned = found.fastest.autotune
    mode, (name,) = (peers.MOST, peers.TUNED) if tuned else (peers.PLAIN, peers.COMPILED)
    with session.attempt("refine", name):
        fast = pipeline.by_torch(found.compiled(mode))
        session.add("refine", name, session.measure(lambda: pipeline(fast), rounds))
