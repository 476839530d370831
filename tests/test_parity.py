"""The denoising loop with OpenVINO networks against HandRefiner's equations 1-3 in torch with diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hoirt import _core, backends, schedules
from hoirt.packs import open_pack

from export.tiny.random_pack import make_modules

STEPS, GUIDANCE, STRENGTH = 20, 3.0, 0.55


def step_network(pack: Path, threads: int = 0) -> _core.Network:
    return backends.load("openvino").open(str(open_pack(pack).network_file("step")), threads=threads)


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    """Two items of the loop's inputs at a size that the pack was not traced at."""
    rng = np.random.default_rng(4)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "text": normal(2, 24, 32),
        "empty": normal(1, 24, 32).repeat(2, axis=0),
        "depth": rng.random((2, 3, 64, 96)).astype(np.float32),
        "masked": normal(2, 4, 16, 24),
        "known": normal(2, 4, 16, 24),
        "mask": (rng.random((2, 1, 16, 24)) < 0.4).astype(np.float32),
        "noise": normal(
            2 + STEPS - 1, 2, 4, 16, 24
        ),  # initial state, initial known, known after every row but the last
    }


@torch.no_grad()
def reference(inputs: dict[str, np.ndarray], config: dict[str, object]) -> np.ndarray:
    """Masked DDIM with fresh known noise at the next level and an unmasked last step, through diffusers."""
    modules = make_modules(0)
    unet, controlnet = modules["unet"], modules["controlnet"]
    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(STEPS)
    value = {key: torch.from_numpy(array) for key, array in inputs.items()}
    noise, mask, known = iter(value["noise"]), value["mask"], value["known"]
    text = torch.cat([value["empty"], value["text"]])
    depth = value["depth"].repeat(2, 1, 1, 1)
    extra = torch.cat([mask, value["masked"]], dim=1).repeat(2, 1, 1, 1)

    def at_level(t: torch.Tensor) -> torch.Tensor:
        signal = scheduler.alphas_cumprod[t]
        return signal.sqrt() * known + (1 - signal).sqrt() * next(noise)

    x = next(noise)
    x = mask * x + (1 - mask) * at_level(scheduler.timesteps[0])
    for index, t in enumerate(scheduler.timesteps):
        both = torch.cat([x, x])
        down, mid = controlnet(both, t, text, depth, conditioning_scale=STRENGTH, return_dict=False)
        out = unet(
            torch.cat([both, extra], dim=1),
            t,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        without, with_text = out.chunk(2)
        x = scheduler.step(without + GUIDANCE * (with_text - without), t, x, eta=0.0).prev_sample
        if index + 1 < STEPS:
            x = mask * x + (1 - mask) * at_level(scheduler.timesteps[index + 1])
    return x.numpy()


def native(
    pack: Path, inputs: dict[str, np.ndarray], config: dict[str, object], threads: int = 0
) -> np.ndarray:
    def once(role: str, **given: np.ndarray) -> np.ndarray:
        return backends.load("openvino").open(str(open_pack(pack).network_file(role))).run(given)[role]

    table = schedules.build(config, STEPS, guidance=GUIDANCE, known_region=True)
    result = _core.DenoiseLoop(step_network(pack, threads), timestep=None).run(
        table,
        shape=inputs["known"].shape,
        seeds=[0, 0],
        condition={
            "context": once("context", encoder_hidden_states=inputs["text"]),
            "hint": once("hint", depth=inputs["depth"]),
            "inpaint": np.concatenate([inputs["mask"], inputs["masked"]], axis=1),
        },
        uncondition={"context": once("context", encoder_hidden_states=inputs["empty"])},
        per_step={"time": once("time", timestep=table.timestep.astype(np.float32))},
        control=STRENGTH,
        known=inputs["known"],
        mask=inputs["mask"],
        noise=inputs["noise"],
    )
    return result.latents


def test_twenty_steps_equal_torch(random_pack: Path, inputs: dict[str, np.ndarray]) -> None:
    config = dict(open_pack(random_pack).manifest.scheduler)
    wanted, got = reference(inputs, config), native(random_pack, inputs, config)
    assert np.abs(got - wanted).max() <= 1e-3 * np.abs(wanted).max()


def test_same_bits_for_any_thread_count(random_pack: Path, inputs: dict[str, np.ndarray]) -> None:
    config = dict(open_pack(random_pack).manifest.scheduler)
    one, two = (native(random_pack, inputs, config, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
