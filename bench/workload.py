"""The work that is timed: one held-out hand, refined by hoirt and by diffusers, whole and in steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hoirt
import numpy as np
from hoirt import _core, backends, schedules
from hoirt.backends.choice import arithmetic_of
from hoirt.packs import Pack, open_pack
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from bench.peer import Pipeline

SEED = 2_000_000
STRENGTH = 0.55
PROMPT = "an open hand"
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """What both sides are given.

    Attributes:
        picture: RGB uint8 (H, W, 3). box: of its hand, (4,) pixels.
        crop, mask, depth: what hoirt cuts, masks (0 or 255) and renders for it, at the pack's working size n:
            uint8 (n, n, 3), (n, n), (n, n).
    """

    picture: NDArray[np.uint8]
    box: Floats
    crop: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    depth: NDArray[np.uint8]

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Job:
        with np.load(path) as arrays:
            return cls(**{key: arrays[key] for key in arrays.files})


def make_job(refiner: hoirt.Refiner, pack: Pack) -> Job:
    """The job of the first held-out picture."""
    from bench.held_out import example

    one = example(SEED)
    picture, box = one.picture.malformed, one.picture.hands[0].box
    result = refiner(picture, hands=[box], steps=1)
    assert result.mask is not None and result.depth is not None
    views = (picture, result.mask * np.uint8(255), result.depth)
    return Job(picture, box, *(one.crop.of(image, pack.settings.crop) for image in views))


def refine(refiner: hoirt.Refiner, job: Job) -> hoirt.Result:
    """Everything hoirt does for one hand, also what the peer does not: left or right, mesh, depth, paste."""
    return refiner(job.picture, hands=[job.box], prompt=PROMPT, strength=STRENGTH)


def run_pipeline(pipeline: Pipeline, job: Job, pack: Pack) -> NDArray[np.float32]:
    """The same hand through the pipeline: text, VAE encoder, guided steps, VAE decoder. -> (n, n, 3)"""
    import torch

    images = pipeline(
        PROMPT,
        image=Image.fromarray(job.crop),
        mask_image=Image.fromarray(job.mask),
        control_image=Image.fromarray(job.depth).convert("RGB"),
        height=pack.settings.crop,
        width=pack.settings.crop,
        num_inference_steps=pack.settings.steps,
        guidance_scale=pack.settings.guidance,
        negative_prompt=pack.settings.negative_prompt,
        controlnet_conditioning_scale=STRENGTH,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    return np.asarray(images[0])


@dataclass(frozen=True)
class Steps:
    """The denoising steps alone, on random conditions: hoirt's loop and the peer's step."""

    pack: Pack
    threads: int
    precision: str = "fp32"

    @cached_property
    def networks(self) -> dict[str, _core.Network]:
        """The pack's `step`, and what is run once before it."""
        runtime = backends.load()
        precision = arithmetic_of(self.precision, runtime.precisions())
        return {
            role: runtime.open(str(self.pack.network_file(role)), precision=precision, threads=self.threads)
            for role in ("step", "hint", "time", "context")
        }

    @cached_property
    def table(self) -> schedules.StepTable:
        """The pack's own sampler with its steps and guidance, blending the known region."""
        settings = self.pack.settings
        return schedules.build(
            self.pack.manifest.scheduler, settings.steps, guidance=settings.guidance, known_region=True
        )

    @cached_property
    def given(self) -> dict[str, Floats]:
        """What both sides start from in one guided step of one hand: both halves of guidance."""
        settings, ports = self.pack.settings, self.pack.manifest.networks
        side = settings.crop // settings.vae.factor
        rng = np.random.default_rng(0)

        def normal(role: str, name: str) -> Floats:
            extents = ports[role].inputs[name].shape[1:]
            return rng.standard_normal((2, *(side if n == -1 else n for n in extents)), np.float32)

        inpaint = normal("step", "inpaint")
        inpaint[:, 0] = inpaint[:, 0] > 0
        return {
            "sample": normal("step", "sample"),
            "inpaint": inpaint,
            "timestep": np.full(2, 500.0, np.float32),
            "encoder_hidden_states": normal("context", "encoder_hidden_states"),
            "control_scale": np.full(2, STRENGTH, np.float32),
        }

    @cached_property
    def batch(self) -> dict[str, Floats]:
        """Inputs of the step network for that step."""
        before = {
            "hint": {"depth": self.depth},
            "time": {"timestep": self.given["timestep"]},
            "context": {"encoder_hidden_states": self.given["encoder_hidden_states"]},
        }
        made = {role: self.networks[role].run(inputs)[role] for role, inputs in before.items()}
        return made | {name: self.given[name] for name in ("sample", "inpaint", "control_scale")}

    @cached_property
    def depth(self) -> Floats:
        """(2, 3, H, W) in 0..1, the same picture twice."""
        crop = self.pack.settings.crop
        return np.repeat(np.random.default_rng(1).random((1, 3, crop, crop), np.float32), 2, axis=0)

    def loop(self) -> _core.LoopResult:
        """All steps of one hand in hoirt's loop."""
        batch = self.batch
        time = self.networks["time"].run({"timestep": self.table.timestep.astype(np.float32)})["time"]
        return _core.DenoiseLoop(self.networks["step"], timestep=None, control="control_scale").run(
            self.table,
            shape=batch["sample"][:1].shape,
            seeds=np.zeros(1, np.uint64),
            condition={
                "context": batch["context"][1:],
                "hint": batch["hint"][1:],
                "inpaint": batch["inpaint"][1:],
            },
            uncondition={"context": batch["context"][:1]},
            per_step={"time": time},
            control=STRENGTH,
            known=batch["sample"][1:],
            mask=batch["inpaint"][1:, :1],
        )

    def torch_step(self, pipeline: Pipeline) -> Callable[[], Any]:
        """The pipeline's step: networks, guidance, scheduler."""
        import torch

        from bench.peer import predict

        kind = pipeline.unet.dtype
        inputs = {name: torch.from_numpy(values).to(kind) for name, values in self.given.items()}
        depth = torch.from_numpy(self.depth).to(kind)
        scheduler = pipeline.scheduler
        scheduler.set_timesteps(self.pack.settings.steps)
        time = scheduler.timesteps[len(scheduler.timesteps) // 2]
        guidance = self.pack.settings.guidance

        def step() -> Any:
            with torch.inference_mode():
                uncondition, condition = predict(pipeline, inputs, depth).chunk(2)
                out = uncondition + guidance * (condition - uncondition)
                scheduler._step_index = None  # the same step again, also of samplers that count
                return scheduler.step(out, time, inputs["sample"][:1], return_dict=False)[0]

        return step

    def disagreement(self, pipeline: Pipeline) -> float:
        """Largest difference between hoirt's prediction and the peer's, as a share of the largest value."""
        import torch

        from bench.peer import predict

        with torch.inference_mode():
            inputs: Mapping[str, torch.Tensor] = {k: torch.from_numpy(v) for k, v in self.given.items()}
            expected = predict(pipeline, inputs, torch.from_numpy(self.depth)).numpy()
        found = self.networks["step"].run(self.batch)["prediction"]
        return float(np.abs(found - expected).max() / np.abs(expected).max())


def open_workload(pack: str, threads: int, precision: str = "auto") -> tuple[Pack, hoirt.Refiner, Job, Steps]:
    """The pack, a Refiner of it, the job and the steps."""
    opened = open_pack(pack)
    refiner = hoirt.Refiner(pack, threads=threads, precision=precision)
    return opened, refiner, make_job(refiner, opened), Steps(opened, threads, refiner.precision)
