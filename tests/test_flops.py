"""The counter of operations in ONNX graphs against torch's own, and the arithmetic of the trade-off bench."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hoirt.packs import open_pack
from torch import Tensor, nn

from bench import flops
from bench.fewer_flops import Costs, Way, all_ways, costs_of_pack, costs_of_sd15
from bench.quality_time import Dot, draw, front
from export.onnx_export import export_network
from export.tiny.models import make_controlnet, make_unet


class Mixed(nn.Module):
    """Every operator that counts: strided, grouped and transposed convolutions, Gemm, MatMul, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.row = nn.Linear(4, 6)
        self.mixed = nn.Linear(6, 6, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        features = self.up(self.grouped(self.first(image)))
        tokens = self.mixed(self.row(features.flatten(2).transpose(1, 2)))
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        return self.row((weights @ tokens)[..., :4].mean(1))


def counted(module: nn.Module, *inputs: Tensor) -> int:
    return flops.counted_by_torch(module, *inputs)[0]


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (1, 3, 10, 6)])
def test_the_counter_equals_torchs(tmp_path: Path, shape: tuple[int, ...]) -> None:
    module, path = Mixed(), tmp_path / "mixed.onnx"
    axes = {"image": {0: "N", 2: "h", 3: "w"}, "out": {0: "N"}}
    export_network(module, {"image": torch.randn(2, 3, 8, 8)}, axes, path)
    assert flops.count(path, {"image": shape}) == counted(module, torch.randn(shape))
    assert flops.output_shapes(path, {"image": shape}) == {"out": (shape[0], 6)}
    for wrong in ({}, {"image": (2, 3, 8)}):
        with pytest.raises(ValueError, match="the input image needs a shape of 4 extents"):
            flops.count(path, wrong)


def test_the_bundled_step_counts_as_the_torch_modules_it_came_from() -> None:
    """But for the projections of time and text, which left the step."""
    pack = open_pack("handrefiner-tiny")
    costs = costs_of_pack(pack)
    unet, side = make_unet(), pack.settings.crop // pack.settings.vae.factor
    text = torch.randn(1, pack.manifest.tokenizer.max_length, unet.config.cross_attention_dim)
    latents = torch.randn(1, 9, side, side)
    controlnet = make_controlnet(unet)
    depth = torch.rand(1, 3, pack.settings.crop, pack.settings.crop)
    whole = counted(unet, latents, torch.tensor(5), text)
    whole += counted(controlnet, latents[:, :4], torch.tensor(5), text, depth)
    before = counted(controlnet.controlnet_cond_embedding, depth)
    projected = text.shape[1] * text.shape[2] * pack.manifest.networks["context"].outputs["context"].shape[-1]
    assert costs.full == pytest.approx(whole - before - 2 * projected, rel=1e-3)  # the rest is the time's
    assert costs.full > costs.reuse["control"] > costs.reuse["deep"] > 0


def test_stable_diffusion_from_its_config_alone() -> None:
    """The UNet's forward pass at 64 x 64 latents is known to take about 0.8 TFLOP, 2 per multiply-add."""
    costs = costs_of_sd15()
    assert 0.6e12 < costs.reuse["control"] < 0.9e12
    assert 1.25 * costs.reuse["control"] < costs.full < 1.5 * costs.reuse["control"]
    assert costs.reuse["deep"] < 0.4 * costs.reuse["control"]


def test_the_costs_of_a_way() -> None:
    costs = Costs(100, {"control": 60, "deep": 10})
    assert costs.of(Way("DDIM", 10), 2.0) == 10 * 200
    assert costs.of(Way("DDIM", 10), 1.0) == 10 * 100
    assert costs.of(Way("DDIM", 10, (0.2, 0.7)), 2.0) == 5 * 100 + 5 * 200
    assert costs.of(Way("DDIM", 10, reuse="deep", reuse_every=2), 2.0) == 5 * 200 + 5 * 20
    # Rows 0, 3, 6, 9 are full, and row 2, the first guided one.
    assert costs.of(Way("DDIM", 10, (0.2, 0.5), "control", 3), 2.0) == 3 * 100 + 2 * 200 + 4 * 60 + 120


def test_the_ways_differ_and_run_what_the_pack_has() -> None:
    ways = all_ways(open_pack("handrefiner-tiny"))
    assert len({way.name for way in ways}) == len(ways) == 64
    assert {way.reuse for way in ways} == {None, "control", "deep"}


def test_the_front_is_what_nothing_beats(tmp_path: Path) -> None:
    ways = ((1.0, 5.0), (2.0, 6.0), (3.0, 2.0), (3.0, 4.0), (4.0, 2.0))
    dots = [Dot("a", "20", seconds, error, error) for seconds, error in ways]
    assert [(dot.seconds, dot.joint_error) for dot in front(dots, "joint_error")] == [(1.0, 5.0), (3.0, 2.0)]
    draw(dots, tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")
