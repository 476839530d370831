"""The work that both sides do at full size: one guided step, and a whole picture of 512 x 512."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from hoirt import backends
from hoirt.backends.networks import EXACT
from hoirt.packs import Pack
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import hoirt
    from hoirt._core import Network

Floats = NDArray[np.float32]
SIDE = 512
STRENGTH = 0.55
PROMPT = "an open palm"


def picture() -> NDArray[np.uint8]:
    """RGB (512, 512, 3): soft random colours."""
    small = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def depth() -> NDArray[np.uint8]:
    """(512, 512): a ball instead of a hand, 255 near to 51 far, 0 around it."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    height = np.sqrt(np.maximum(0.3**2 - x**2 - y**2, 0)) / 0.3
    return np.where(height > 0, 51 + 204 * height, 0).astype(np.uint8)


def mask() -> NDArray[np.uint8]:
    """(512, 512): 255 on the ball and around it."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return np.where(x**2 + y**2 < 0.33**2, 255, 0).astype(np.uint8)


def refine(refiner: hoirt.Refiner, steps: int) -> Any:
    """hoirt on the picture as one region, so that both sides work at 512 x 512."""
    return refiner(
        picture(),
        hands=[],
        mask=mask(),
        depth=depth(),
        region="frame",
        prompt=PROMPT,
        strength=STRENGTH,
        steps=steps,
    )


def run_pipeline(pipeline: Any, steps: int, guidance: float, negative: str) -> Any:
    """diffusers on the same picture, mask and depth."""
    import torch

    return pipeline(
        PROMPT,
        image=Image.fromarray(picture()),
        mask_image=Image.fromarray(mask()),
        control_image=Image.fromarray(depth()).convert("RGB"),
        height=SIDE,
        width=SIDE,
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative,
        controlnet_conditioning_scale=STRENGTH,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images


def step_inputs(pack: Pack, side: int = SIDE // 8, batch: int = 2) -> dict[str, Floats]:
    """Random inputs of a guided step of torch's networks: the halves differ in their text only."""
    rng = np.random.default_rng(0)
    networks = pack.manifest.networks

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape, np.float32)

    def twice(values: Floats) -> Floats:
        return np.repeat(values, batch, axis=0)

    text = networks["context"].inputs["encoder_hidden_states"].shape
    made = {
        "sample": twice(normal(1, 4, side, side)),
        "timestep": np.full(batch, 500, np.float32),
        "encoder_hidden_states": normal(batch, *text[1:]),
        "depth": twice(rng.random((1, 3, 8 * side, 8 * side), np.float32)),
        "control_scale": np.full(batch, STRENGTH, np.float32),
    }
    if "inpaint" in networks["step"].inputs:
        made["inpaint"] = twice(normal(1, 5, side, side))
    if "pooled" in networks["time"].inputs:
        made["pooled"] = normal(batch, networks["time"].inputs["pooled"].shape[1])
        made["time_ids"] = np.tile(np.array([512, 512, 0, 0, 512, 512], np.float32), (batch, 1))
    return made


def predict(modules: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    """ControlNet and UNet of diffusers, called as its pipelines do. -> (N, 4, h, w)"""
    import torch

    added = {}
    if "pooled" in inputs:
        added["added_cond_kwargs"] = {"text_embeds": inputs["pooled"], "time_ids": inputs["time_ids"]}
    sample, time, text = inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]
    down, mid = modules["controlnet"](
        sample, time, text, inputs["depth"], conditioning_scale=STRENGTH, return_dict=False, **added
    )
    if "inpaint" in inputs:
        sample = torch.cat([sample, inputs["inpaint"]], dim=1)
    return modules["unet"](
        sample,
        time,
        text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
        return_dict=False,
        **added,
    )[0]


def torch_step(modules: Mapping[str, Any], inputs: Mapping[str, Floats], precision: str) -> Callable[[], Any]:
    """A call that runs `predict` in a precision that the modules have. -> float32 array"""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    given = {name: torch.from_numpy(value).to(kind) for name, value in inputs.items()}

    def step() -> Floats:
        with torch.inference_mode():
            return np.asarray(predict(modules, given).float().numpy())

    return step


class HoirtStep:
    """The step of a pack through hoirt's own networks, opened and cached as a Refiner does."""

    def __init__(self, pack: Pack, precision: str, threads: int) -> None:
        self.pack, self.precision, self.threads = pack, precision, threads

    @cached_property
    def networks(self) -> dict[str, Network]:
        from hoirt.backends.cache import path_for

        runtime = backends.load()

        def opened(role: str) -> Network:
            precision = "fp32" if role in EXACT else self.precision
            cached = path_for(
                self.pack.network_hash(role),
                backend=runtime.name,
                version=runtime.version,
                precision=precision,
                threads=self.threads,
            )
            path = str(self.pack.network_file(role))
            return runtime.open(path, cache_path=cached, precision=precision, threads=self.threads)

        return {role: opened(role) for role in ("step", "hint", "time", "context")}

    def prepared(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        """Inputs of the step network: hint, time and context go through the networks before the loop."""
        ready = dict(inputs)
        for role in ("hint", "time", "context"):
            network = self.networks[role]
            ready[role] = network.run({port.name: inputs[port.name] for port in network.inputs})[role]
        return {port.name: ready[port.name] for port in self.networks["step"].inputs}

    def call(self, inputs: Mapping[str, Floats]) -> Callable[[], Floats]:
        """One step on inputs that are prepared now."""
        batch, step = self.prepared(inputs), self.networks["step"]
        return lambda: np.asarray(step.run(batch)["prediction"])


def relative(found: Floats, expected: Floats) -> float:
    """Euclidean length of the difference over that of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
