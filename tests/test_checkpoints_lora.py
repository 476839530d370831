"""LoRA files of every layout, fused when weights are read, against the layers run side by side."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_tools as tools
import pytest
import torch
from checkpoint_files import Entry, write_safetensors
from diffusers.loaders import lora_conversion_utils as oracle
from torch import Tensor, nn
from torch.nn import functional as F

from export.checkpoints import (
    BaseModel,
    CheckpointError,
    Component,
    empty_module,
    open_tensors,
    read_base,
    with_lora,
)

RANK, ALPHA = 3, 2.0


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return read_base(
        tools.write_diffusers_folder(tmp_path_factory.mktemp("sd15"), tools.tiny_networks("sd15"))
    )


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return read_base(
        tools.write_diffusers_folder(tmp_path_factory.mktemp("sdxl"), tools.tiny_networks("sdxl"))
    )


def write(path: Path, base: BaseModel, layout: Any, **settings: Any) -> Path:
    return tools.write_lora(path / "lora.safetensors", base.components, layout, **settings)


def differences(base: BaseModel, fused: BaseModel) -> dict[tuple[str, str], Tensor]:
    """The changed weights, by component and key."""
    found = {}
    for name, component in base.components.items():
        for key in component.weights.infos():
            before, after = component.weights.read(key), fused.components[name].weights.read(key)
            assert after.dtype == before.dtype and after.shape == before.shape
            if not torch.equal(before, after):
                found[name, key] = after - before
    return found


def test_layouts_agree(sd15: BaseModel, sdxl: BaseModel, tmp_path: Path) -> None:
    """The same update in each layout changes the same weights by the same numbers."""
    for base, layouts in ((sd15, ["kohya", "kohya_ldm", "peft"]), (sdxl, ["kohya_ldm", "peft"])):
        results = []
        for layout in layouts:
            fused = with_lora(base, write(tmp_path, base, layout, alpha=ALPHA), 0.5)
            results.append(differences(base, fused))
        touched = {key.split(".")[-2] for _, key in results[0]}
        assert {"to_q", "0", "2", "proj_in", "conv1", "q_proj", "fc1"} <= touched
        for other in results[1:]:
            assert other.keys() == results[0].keys()
            assert all(torch.equal(other[key], results[0][key]) for key in other)


def test_a_layer_with_its_update_beside_it(sd15: BaseModel, tmp_path: Path) -> None:
    """LoRA's definition: W x + scale * alpha / rank * up(down(x)), for matrices, 1x1 and 3x3 convolutions."""
    path = write(tmp_path, sd15, "kohya", alpha=ALPHA, rank=RANK)
    tensors = open_tensors(path)
    fused = with_lora(sd15, path, -0.7)
    for key in (
        "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k.weight",
        "up_blocks.1.attentions.0.proj_in.weight",
        "mid_block.resnets.1.conv1.weight",
    ):
        name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
        down, up = (tensors[f"{name}.lora_{part}.weight"].read() for part in ("down", "up"))
        weight = sd15.unet.weights.read(key)
        layer: Callable[[Tensor, Tensor], Tensor] = F.linear
        if weight.ndim == 4:
            layer = lambda x, w: F.conv2d(x, w, padding=w.shape[-1] // 2)  # noqa: E731
        x = torch.randn(2, weight.shape[1], *((5, 6) if weight.ndim == 4 else ()))
        beside = layer(x, weight) - 0.7 * ALPHA / RANK * layer(layer(x, down), up)
        torch.testing.assert_close(layer(x, fused.unet.weights.read(key)), beside, rtol=1e-4, atol=1e-5)


def test_names_as_diffusers_converts_them(sd15: BaseModel, sdxl: BaseModel, tmp_path: Path) -> None:
    """The oracle for names: diffusers turns kohya's files into its own names, our peft layout."""
    for base, layout in ((sd15, "kohya"), (sdxl, "kohya_ldm")):
        only = r"attn\d\.to_[qkv]|to_out\.0|[qv]_proj|fc1"
        kohya = {k: t.read() for k, t in open_tensors(write(tmp_path, base, layout, layers=only)).items()}
        kohya = {k.replace("lora_te_", "lora_te1_") if base is sdxl else k: v for k, v in kohya.items()}
        if layout == "kohya_ldm":
            config = type("Config", (), {"layers_per_block": base.unet.config["layers_per_block"]})
            kohya = oracle._maybe_map_sgm_blocks_to_diffusers(kohya, config)
        theirs, _ = oracle._convert_non_diffusers_lora_to_diffusers(kohya)
        ours = open_tensors(write(tmp_path, base, "peft", layers=only))

        def short(key: str) -> str:
            key = re.sub(r"\.processor\.(to_[qkv])_lora\.", r".\1.lora.", key)
            key = re.sub(r"self_attn\.to_([qv])_lora\.", r"self_attn.\1_proj.lora.", key)
            key = key.replace(".processor.to_out_lora.", ".to_out.0.lora.")
            key = key.replace("lora_linear_layer", "lora")
            return key.replace("lora_A", "lora.down").replace("lora_B", "lora.up")

        assert {short(key) for key in theirs} == {short(key) for key in ours}


def test_older_layouts_of_diffusers(sd15: BaseModel, tmp_path: Path) -> None:
    """`*.lora.down` and `*.processor.to_q_lora.down`, of which alpha is always the rank."""
    only = r"attn\d\.to_[qkv]|to_out\.0"
    plain = differences(sd15, with_lora(sd15, write(tmp_path, sd15, "diffusers", layers=only)))
    entries = []
    for key, tensor in open_tensors(tmp_path / "lora.safetensors").items():
        name = key.replace(".to_out.0.", ".to_out.")
        for leaf in ("to_q", "to_k", "to_v", "to_out"):
            name = name.replace(f".{leaf}.lora.", f".processor.{leaf}_lora.")
        entries.append(Entry(name, tensor.shape, tensor.dtype, tensor.read))
    older = write_safetensors(tmp_path / "older.safetensors", entries)
    assert any(".processor.to_out_lora." in entry.name for entry in entries)
    found = differences(sd15, with_lora(sd15, older))
    assert found.keys() == plain.keys() and all(torch.equal(found[k], plain[k]) for k in plain)


def test_scales_add_up_and_zero_is_none(sd15: BaseModel, tmp_path: Path) -> None:
    path = write(tmp_path, sd15, "peft", alpha=None)
    assert not differences(sd15, with_lora(sd15, path, 0))
    whole, halves = with_lora(sd15, path, 1.0), with_lora(with_lora(sd15, path, 0.5), path, 0.5)
    assert path in whole.unet.files and whole.vae is sd15.vae
    for (name, key), change in differences(sd15, whole).items():
        twice = halves.components[name].weights.read(key) - sd15.components[name].weights.read(key)
        torch.testing.assert_close(twice, change, rtol=1e-4, atol=1e-6)


def test_half_weights_are_summed_in_float32(tmp_path: Path) -> None:
    networks = tools.tiny_networks("sd15")
    base = read_base(tools.write_diffusers_folder(tmp_path / "half", networks, half=True))
    fused = with_lora(base, write(tmp_path, base, "kohya", alpha=ALPHA))
    full = with_lora(_with_float(base), write(tmp_path, base, "kohya", alpha=ALPHA))
    for key in base.unet.weights.infos():
        weight = fused.unet.weights.read(key)
        assert weight.dtype == torch.float16
        assert torch.equal(weight, full.unet.weights.read(key).half()), key


class _Float:
    """The same weights, cast to float32."""

    def __init__(self, component: Component) -> None:
        self.component = component

    def infos(self) -> Any:
        return self.component.weights.infos()

    def read(self, key: str) -> Tensor:
        return self.component.weights.read(key).float()


def _with_float(base: BaseModel) -> BaseModel:
    from dataclasses import replace

    return replace(base, unet=replace(base.unet, weights=_Float(base.unet)))


def test_the_fused_network_runs(sd15: BaseModel, tmp_path: Path) -> None:
    fused = with_lora(sd15, write(tmp_path, sd15, "kohya", alpha=ALPHA), 0.8)
    module: nn.Module = tools.load(fused.text_encoder)
    assert module.state_dict().keys() == empty_module(sd15.text_encoder.config).state_dict().keys()
    with torch.no_grad():
        states = module(torch.tensor([[3, 4, 5]]))[0]
        before = tools.load(sd15.text_encoder)(torch.tensor([[3, 4, 5]]))[0]
    assert torch.isfinite(states).all() and not torch.allclose(states, before, atol=1e-3)


# Mistakes


def test_of_another_base_model(sd15: BaseModel, sdxl: BaseModel, tmp_path: Path) -> None:
    for base, layout, other in ((sd15, "kohya", sdxl), (sdxl, "kohya_ldm", sd15)):
        with pytest.raises(CheckpointError, match="another base model"):
            with_lora(other, write(tmp_path, base, layout))


@pytest.mark.parametrize("scale", [math.nan, math.inf, "1", None, True])
def test_scale(sd15: BaseModel, tmp_path: Path, scale: Any) -> None:
    with pytest.raises(CheckpointError, match="finite number"):
        with_lora(sd15, tmp_path / "none.safetensors", scale)


def test_damaged(sd15: BaseModel, tmp_path: Path) -> None:
    path = write(tmp_path, sd15, "kohya", layers=r"mid_block.*to_q")
    entries = [Entry(k, t.shape, t.dtype, t.read) for k, t in open_tensors(path).items()]
    name = entries[0].name.split(".")[0]

    def refused(message: str, *changed: Entry, drop: int = 0) -> None:
        bad = write_safetensors(tmp_path / "bad.safetensors", [*entries[drop:], *changed])
        with pytest.raises(CheckpointError, match=message):
            with_lora(sd15, bad).unet.weights.read(
                "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
            )

    def constant(key: str, *shape: int, value: float = 1.0) -> Entry:
        return Entry(key, shape, torch.float32, lambda: torch.full(shape, value))

    refused("lack their up or down: lora_unet_mid", drop=1)
    refused("keys are unexpected: clip_thing", constant("clip_thing", 2))
    refused("keys are unexpected: stray.alpha", constant("stray.alpha"))
    refused("a LoHa", constant(f"{name}.hada_w1_a", 4, 4))
    refused("a DoRA", constant(f"{name}.dora_scale", 4, 4))
    refused("have wrong shapes", constant(f"{name}.lora_down.weight", 3, 7), drop=1)
    entries = [e for e in entries if not e.name.endswith(".alpha")]
    refused("not a finite number", constant(f"{name}.alpha", value=math.nan))
    refused("not finite", constant(f"{name}.lora_down.weight", 3, 64, value=math.inf), drop=1)
    vae = write_safetensors(tmp_path / "vae.safetensors", tools.entries_of(sd15.vae))
    with pytest.raises(CheckpointError, match="not a LoRA but a VAE alone"):
        with_lora(sd15, vae)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[1]", "not a JSON object"),
        ("{", "not a JSON object"),
        (json.dumps({"unet.use_dora": True}), "not supported"),
        (json.dumps({"unet.lora_alpha": "2"}), "not a finite number"),
    ],
)
def test_settings_of_peft(sd15: BaseModel, tmp_path: Path, settings: str, message: str) -> None:
    tensors = open_tensors(write(tmp_path, sd15, "peft", layers="mid_block.*to_q"))
    entries = [Entry(k, t.shape, t.dtype, t.read) for k, t in tensors.items()]
    path = write_safetensors(tmp_path / "bad.safetensors", entries, {"lora_adapter_metadata": settings})
    with pytest.raises(CheckpointError, match=message):
        with_lora(sd15, path)
