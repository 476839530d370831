"""The reference of the released HandRefiner against diffusers, the paper's equations and known answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from handrefiner_reference import (
    Condition,
    GivenNoise,
    Networks,
    Run,
    Schedule,
    SeededNoise,
    adaptive_released,
    control_scales,
    encode_released,
    run_released,
    sample_released,
    separate,
    torch_networks,
)
from torch import Tensor

from export.tiny.random_pack import make_modules

SIZE, FACTOR, STEPS, STRENGTH = 64, 4, 4, 0.55
LATENT = (1, 4, SIZE // FACTOR, SIZE // FACTOR)


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    return make_modules(0)


@pytest.fixture(scope="module")
def networks(modules: dict[str, Any]) -> Networks:
    return torch_networks(modules)


@pytest.fixture(scope="module")
def picture() -> dict[str, np.ndarray]:
    """A noisy picture with a depth map, and a mask whose edges lie inside latent cells."""
    rng = np.random.default_rng(0)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[17:43, 14:50] = 255
    depth = np.zeros((SIZE, SIZE), np.uint8)
    depth[20:40, 20:44] = rng.integers(51, 256, (20, 24))
    return {"image": rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8), "depth": depth, "mask": mask}


@pytest.fixture(scope="module")
def draws() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    once = {name: torch.randn(LATENT, generator=generator) for name in ("masked", "image", "initial")}
    return {**once, "known": torch.randn((STEPS, *LATENT), generator=generator)}


@pytest.fixture(scope="module")
def ids(modules: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Token ids of a prompt and of a negative prompt."""
    length = modules["text_encoder"].config.max_position_embeddings
    tokenizer = modules["tokenizer"]
    found = [
        tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        for text in ("an open palm", "a malformed hand")
    ]
    return found[0]["input_ids"], found[1]["input_ids"]


def run(
    networks: Networks, picture: dict[str, np.ndarray], ids: tuple[Tensor, Tensor], draws: Any, **options: Any
) -> Run:
    given = {"strength": STRENGTH, "steps": STEPS} | options
    noise = GivenNoise(**draws)
    return run_released(**picture, networks=networks, prompt=ids[0], negative=ids[1], noise=noise, **given)


def ddim(steps: int) -> DDIMScheduler:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(steps)
    return scheduler


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_schedule_has_the_published_numbers() -> None:
    schedule = Schedule(50)
    published = {
        0: 0.99915000,
        1: 0.998296028,
        21: 0.980380748,
        481: 0.302295661,
        501: 0.274999067,
        961: 0.007281727,
        981: 0.005775500,
    }
    for timestep, value in published.items():
        assert schedule.abar[timestep] == pytest.approx(value, abs=6e-10, rel=1e-6)
    assert schedule.timesteps.tolist() == [*range(981, 0, -20)]
    assert schedule.previous[-1] == schedule.abar[0]
    assert schedule.previous[0] == schedule.abar[961]


@pytest.mark.parametrize("steps", [4, 20, 50])
def test_schedule_is_diffusers_where_they_coincide(steps: int) -> None:
    schedule, theirs = Schedule(steps), ddim(steps)
    assert schedule.timesteps.tolist() == theirs.timesteps.tolist()
    generator = torch.Generator().manual_seed(2)
    x, eps = torch.randn((2, *LATENT), generator=generator)
    for index, t in enumerate(theirs.timesteps):
        close(schedule.step(index, x, eps), theirs.step(eps, t, x, eta=0.0).prev_sample, 2e-5)
        close(schedule.noised(x, int(t), eps), theirs.add_noise(x, eps, t.reshape(1)), 1e-6)


def test_steps_that_do_not_divide_a_thousand() -> None:
    assert len(Schedule(7).timesteps) == 8
    with pytest.raises(IndexError, match="1000"):
        Schedule(3)


@torch.no_grad()
def paper(
    modules: dict[str, Any], condition: Condition, texts: Sequence[Tensor], draws: dict[str, Tensor]
) -> Tensor:
    """Equations 1 and 2 through diffusers: blended after each step but the last at the level reached."""
    scheduler = ddim(STEPS)
    known, mask = condition.known, condition.mask
    times = scheduler.timesteps

    def blended(x: Tensor, index: int) -> Tensor:
        noised = scheduler.add_noise(known, draws["known"][index], times[index].reshape(1))
        return mask * x + (1 - mask) * noised

    x = blended(draws["initial"], 0)  # the one blend more than the paper's
    for index, t in enumerate(times):
        guided = []
        for text in texts:
            down, middle = modules["controlnet"](
                x, t, text, condition.hint, conditioning_scale=STRENGTH, return_dict=False
            )
            eps = modules["unet"](
                torch.cat([x, condition.inpaint], dim=1),
                t,
                text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
            guided.append(eps)
        x = scheduler.step(guided[1] + 9.0 * (guided[0] - guided[1]), t, x, eta=0.0).prev_sample
        if index + 1 < STEPS:
            x = blended(x, index + 1)
    return x


def test_blending_after_each_step_as_in_the_paper_is_the_same_sequence(
    modules: dict[str, Any],
    networks: Networks,
    picture: dict[str, np.ndarray],
    ids: tuple[Tensor, Tensor],
    draws: dict[str, Tensor],
) -> None:
    with torch.no_grad():
        texts = [modules["text_encoder"](input_ids=tokens).last_hidden_state for tokens in ids]
    condition = encode_released(networks, **picture, noise=GivenNoise(**draws))
    got = run(networks, picture, ids, draws)
    assert len(got["latents"]) == STEPS
    close(got["latents"][-1], paper(modules, condition, texts, draws), 1e-4)


def test_encoding_samples_both_posteriors(
    modules: dict[str, Any],
    networks: Networks,
    picture: dict[str, np.ndarray],
    draws: dict[str, Tensor],
) -> None:
    condition = encode_released(networks, **picture, noise=GivenNoise(**draws))
    hole = picture["mask"][..., None] > 127
    pixels = picture["image"].astype(np.float32) / 127.5 - 1.0
    for image, name, got in (
        (pixels, "image", condition.known),
        (np.where(hole, np.float32(0), pixels), "masked", condition.inpaint[:, 1:]),
    ):
        with torch.no_grad():
            posterior = modules["vae"].encode(torch.from_numpy(image).permute(2, 0, 1)[None]).latent_dist
        wanted = 0.2 * (posterior.mean + posterior.std * draws[name])
        close(got, wanted, 1e-5)
        assert (got - 0.2 * posterior.mean).abs().max() > 0.05
    # The hint: three equal channels in 0..1 at full size.
    assert condition.hint.shape == (1, 3, SIZE, SIZE)
    np.testing.assert_array_equal(condition.hint[0, 2].numpy(), picture["depth"] / np.float32(255))
    # The top-left pixel of each cell decides: the mask begins at row 17 and column 14, ends before 43 and 50.
    assert condition.mask[0, 0].nonzero().min(dim=0).values.tolist() == [5, 4]
    assert condition.mask[0, 0].nonzero().max(dim=0).values.tolist() == [10, 12]


def test_log_variance_is_clamped(picture: dict[str, np.ndarray]) -> None:
    def moments(image: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(LATENT), torch.full(LATENT, 100.0)

    networks = Networks(moments, lambda x: x, lambda x: x, lambda *_: torch.zeros(LATENT), scaling=1.0)
    ones = {name: torch.ones(LATENT) for name in ("masked", "image")}
    known = encode_released(networks, **picture, noise=GivenNoise(**ones)).known
    np.testing.assert_allclose(known.numpy(), np.exp(10.0), rtol=1e-5)


def test_only_the_last_step_is_unmasked(
    networks: Networks, picture: dict[str, np.ndarray], ids: tuple[Tensor, Tensor], draws: dict[str, Tensor]
) -> None:
    other = {**draws, "initial": draws["initial"] + 3.0 * (1.0 - cells(picture["mask"]))}
    # Outside of the mask x_T is replaced before the first pass.
    assert torch.equal(
        run(networks, picture, ids, draws)["latents"][-1], run(networks, picture, ids, other)["latents"][-1]
    )
    seen: list[Tensor] = []

    def predict(x: Tensor, *_: Any) -> Tensor:
        seen.append(x.clone())
        return torch.ones_like(x)

    traced = Networks(networks.moments, networks.decode, networks.text, predict, networks.scaling)
    last = run(traced, picture, ids, draws)["latents"][-1]
    condition = encode_released(networks, **picture, noise=GivenNoise(**draws))
    schedule, outside = Schedule(STEPS), cells(picture["mask"]).repeat(1, 4, 1, 1) == 0
    assert len(seen) == 2 * STEPS  # two passes a step, one after the other
    for index, t in enumerate(schedule.timesteps.tolist()):
        assert torch.equal(seen[2 * index], seen[2 * index + 1])
        noised = schedule.noised(condition.known, t, draws["known"][index])
        assert torch.equal(seen[2 * index][outside], noised[outside])
    stepped = schedule.step(STEPS - 1, seen[-1], torch.ones(LATENT))
    assert torch.equal(last, stepped)


def cells(mask: np.ndarray) -> Tensor:
    return torch.from_numpy(mask[::FACTOR, ::FACTOR] / np.float32(255))[None, None]


class Recorded:
    """Notes what is drawn from a source."""

    def __init__(self, source: SeededNoise) -> None:
        self.source, self.names, self.drawn = source, [], []

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        self.names.append(name)
        self.drawn.append(self.source(name, shape))
        return self.drawn[-1]


def test_noise_is_drawn_in_the_released_order(
    networks: Networks, picture: dict[str, np.ndarray], ids: tuple[Tensor, Tensor]
) -> None:
    noise = Recorded(SeededNoise(7))
    options = {"networks": networks, "prompt": ids[0], "negative": ids[1], "strength": 1.0, "steps": 2}
    made = run_released(**picture, **options, noise=noise)
    assert noise.names == ["masked", "image", "initial", "known", "ddim", "known", "ddim"]
    torch.manual_seed(7)
    first = [torch.randn(LATENT) for _ in range(5)]
    wanted = [*first[:2], *first]  # seeded again before x_T
    assert all(torch.equal(a, b) for a, b in zip(noise.drawn, wanted, strict=True))
    again = run_released(**picture, **options, noise=SeededNoise(7))
    np.testing.assert_array_equal(made["image"], again["image"])


def test_given_noise_must_fit() -> None:
    with pytest.raises(ValueError, match="noise image has shape"):
        GivenNoise(image=np.zeros((1, 4, 2, 2), np.float32))("image", (1, 4, 3, 3))


def test_control_is_scaled_alike_in_every_block_and_both_passes() -> None:
    assert control_scales(0.4, 13) == [0.4] * 13
    guessed = control_scales(0.5, 13, guess_mode=True)
    np.testing.assert_allclose(guessed, [0.5 * 0.825 ** (12 - k) for k in range(13)])
    calls: list[tuple[str, list[float]]] = []

    def unet(x: Tensor, t: int, text: str, controls: Sequence[Tensor]) -> Tensor:
        assert x.shape[1] == 9
        calls.append((text, [float(c.mean()) for c in controls]))
        return x[:, :4]

    def controlnet(x: Tensor, t: int, text: str, hint: Tensor) -> list[Tensor]:
        assert x.shape[1] == 4
        return [torch.full((1, 1), float(k)) for k in range(1, 14)]

    for guess, scales in ((False, [0.4] * 13), (True, control_scales(0.4, 13, True))):
        calls.clear()
        networks = Networks(
            moments=lambda image: (torch.zeros(LATENT), torch.zeros(LATENT)),
            decode=lambda x: x[:, :3],
            text=lambda ids: ids,
            predict=separate(controlnet, unet, guess),
            scaling=1.0,
        )
        condition = Condition(
            torch.zeros(LATENT), torch.ones(LATENT), torch.zeros(1, 5, *LATENT[2:]), torch.zeros(1)
        )
        sample_released(
            networks,
            condition,
            "positive",
            "negative",
            strength=0.4,
            schedule=Schedule(2),
            noise=SeededNoise(0),
        )
        assert [text for text, _ in calls] == ["positive", "negative"] * 2
        for _, controls in calls:
            np.testing.assert_allclose(controls, np.arange(1, 14) * scales, rtol=1e-6)


def test_picture_is_cut_to_bytes_and_nothing_is_pasted(
    networks: Networks, picture: dict[str, np.ndarray], ids: tuple[Tensor, Tensor], draws: dict[str, Tensor]
) -> None:
    made = run(networks, picture, ids, draws)
    with torch.no_grad():
        decoded = networks.decode(made["latents"][-1] / networks.scaling)[0].permute(1, 2, 0).numpy()
    values = np.clip(decoded.astype(np.float64) * 127.5 + 127.5, 0, 255)
    cut = np.floor(values)
    near = np.abs(values - np.round(values)) < 1e-3  # where float32 may fall on either side
    np.testing.assert_array_equal(made["image"][~near], cut[~near])
    outside = picture["mask"] == 0
    assert (made["image"][outside] != picture["image"][outside]).mean() > 0.5


def adaptive(errors: dict[float, float]) -> Any:
    return adaptive_released(
        sample=lambda strength: f"picture {strength}", error=lambda p: errors[float(p[8:])]
    )


def test_adaptive_takes_the_first_strength_that_is_good_enough() -> None:
    found = adaptive({1.0: 2.0, 0.4: 5.0, 0.5: 2.3, 0.6: 2.29, 0.7: 0.1, 0.8: 0.1, 0.9: 0.1})
    assert list(found.tried) == [1.0, 0.4, 0.5, 0.6]  # 1.15 * 2.0 itself is not below the bound
    assert (found.strength, found.error) == (0.6, 2.29)
    assert found.chosen == found.saved == "picture 0.6"


def test_adaptive_saves_another_picture_than_it_logs_when_none_is_good_enough() -> None:
    found = adaptive({1.0: 2.0} | dict.fromkeys((0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 9.0))
    assert len(found.tried) == 7
    assert (found.strength, found.error) == (1.0, 2.0)
    assert (found.chosen, found.saved) == ("picture 1.0", "picture 0.9")


def test_adaptive_with_a_perfect_reference_falls_back_to_it() -> None:
    assert adaptive(dict.fromkeys((1.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 0.0)).strength == 1.0
