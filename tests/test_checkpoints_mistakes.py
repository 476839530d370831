"""Files that are not what they were given as: a CheckpointError that names the mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_tools as tools
import pytest
import torch
from checkpoint_files import Entry, write_safetensors
from checkpoint_networks import TINY_CLIP_32, held

from export.checkpoints import (
    CheckpointError,
    Component,
    check_pair,
    empty_module,
    read_base,
    read_controlnet,
)

Networks = dict[str, Component]


@pytest.fixture(scope="module")
def networks() -> Networks:
    control = held(tools.random_component(tools.TINY_CONTROLNET_SD15, seed=1))
    return {**tools.tiny_networks("sd15"), "controlnet": control}


@pytest.fixture(scope="module")
def folder(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """single.safetensors (without its ControlNet), control.safetensors, model/ and tokenizer/."""
    folder = tmp_path_factory.mktemp("mistakes")
    base = {name: network for name, network in networks.items() if name != "controlnet"}
    tools.write_tokenizer(folder / "tokenizer")
    tools.write_single_file(folder / "single.safetensors", base)
    tools.write_diffusers_folder(folder / "model", base)
    tools.write_controlnet(folder / "control.safetensors", networks["controlnet"])
    tools.write_lora(folder / "lora.safetensors", base, layers="mid_block.*to_q")
    return folder


def hollow(path: Path, *shapes: tuple[str, tuple[int, ...]]) -> Path:
    entries = [Entry(name, shape, torch.float32, lambda: torch.empty(0)) for name, shape in shapes]
    return write_safetensors(path, entries, hollow=True)


def base_refused(path: Path, message: str, folder: Path, **more: Any) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_base(path, tokenizer=folder / "tokenizer", **more)
    assert str(path) in str(caught.value)


# Given as a base model


def test_a_controlnet(networks: Networks, folder: Path, tmp_path: Path) -> None:
    base_refused(folder / "control.safetensors", r"a ControlNet.* --controlnet", folder)
    for layout in ("bare", "diffusers_file"):
        path = tools.write_controlnet(
            tmp_path / f"{layout}.safetensors", networks["controlnet"], layout=layout
        )
        base_refused(path, "not a base model but a ControlNet; give it with --controlnet", folder)
    path = tools.write_controlnet(tmp_path / "control", networks["controlnet"], layout="diffusers")
    base_refused(path, "the folder of a ControlNetModel; give it with --controlnet", folder)


def test_parts_of_a_model(networks: Networks, folder: Path, tmp_path: Path) -> None:
    base_refused(folder / "lora.safetensors", "a LoRA; give it with --lora", folder)
    entries = tools.ldm_entries({k: n for k, n in networks.items() if k != "controlnet"})
    for prefix, message in (
        ("first_stage_model.", "but a VAE alone"),
        ("cond_stage_model.", "but a text encoder alone"),
        ("model.diffusion_model.", r"lacks the VAE \(first_stage_model\.\*\) and the text encoder"),
    ):
        part = [e for e in entries if e.name.startswith(prefix)]
        base_refused(write_safetensors(tmp_path / "part.safetensors", part), message, folder)
    for name, message in (
        ("unet", "but a UNet in diffusers' keys; give the whole folder"),
        ("vae", "but a VAE alone"),
        ("text_encoder", "but a text encoder alone"),
    ):
        base_refused(
            write_safetensors(tmp_path / "x.safetensors", tools.entries_of(networks[name])), message, folder
        )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["trans_encoder.0.bert.pooler.dense.weight"], r"weights of MeshGraphormer; give it with --mesh"),
        (["stage2.0.branches.0.0.conv1.weight"], "weights of an HRNet"),
        (["double_blocks.0.img_attn.qkv.weight"], "Stable Diffusion 3 or Flux"),
        (["emb_params"], "textual inversion"),
        (["image_proj.proj.weight"], "IP-Adapter"),
        (["anything"], "none of the known kinds of weights"),
        (
            ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.ln_final.bias"],
            "Diffusion 2",
        ),
        (
            ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.model.ln_final.bias"],
            "the refiner of SDXL",
        ),
    ],
)
def test_other_models(folder: Path, tmp_path: Path, names: list[str], message: str) -> None:
    path = hollow(tmp_path / "x.safetensors", *((name, (4, 4)) for name in names))
    base_refused(path, message, folder)


def test_families(networks: Networks, folder: Path, tmp_path: Path) -> None:
    base_refused(
        folder / "single.safetensors", "a model of Stable Diffusion 1.5, where SDXL", folder, expect="sdxl"
    )
    base = read_base(folder / "model")
    wide = tools.random_component(tools.TINY_CONTROLNET_SDXL)
    with pytest.raises(CheckpointError, match=r"for SDXL, but the base model is Stable Diffusion 1\.5"):
        read_controlnet(tools.write_controlnet(tmp_path / "xl.safetensors", wide), base)
    other = Component({**networks["controlnet"].config, "cross_attention_dim": 32}, wide.weights, ())
    with pytest.raises(CheckpointError, match="cross_attention_dim is 32"):
        check_pair(base, other)


@pytest.mark.parametrize(
    ("channels", "message"), [(8, "InstructPix2Pix"), (5, "depth-to-image"), (6, "no known")]
)
def test_input_channels(
    networks: Networks, folder: Path, tmp_path: Path, channels: int, message: str
) -> None:
    unet = tools.random_component({**networks["unet"].config, "in_channels": channels})
    parts = {"unet": unet, "vae": networks["vae"], "text_encoder": networks["text_encoder"]}
    base_refused(tools.write_single_file(tmp_path / "x.safetensors", parts), message, folder)


def test_folders(folder: Path, tmp_path: Path, networks: Networks) -> None:
    base_refused(tmp_path, "the folders scheduler, text_encoder, unet, vae are missing", folder)
    base_refused(folder, "give the file itself, such as control.safetensors", folder)
    for name, content, message in (
        ("unet/config.json", "{", "not JSON"),
        ("unet/config.json", "[]", "not an object"),
        ("unet/config.json", '{"_class_name": "FluxTransformer2DModel"}', "describes a Flux"),
        (
            "vae/config.json",
            '{"_class_name": "AutoencoderKL", "layers_per_block": 100000000}',
            "cannot be right",
        ),
        ("scheduler/scheduler_config.json", "{}", "_class_name"),
    ):
        path = copy_tree(folder / "model", tmp_path / "model")
        (path / name).write_text(content)
        with pytest.raises(CheckpointError, match=message):
            read_base(path)
    path = copy_tree(folder / "model", tmp_path / "model")
    (path / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights in it"):
        read_base(path)
    for name in ("../vae/diffusion_pytorch_model.safetensors", "/etc/passwd", ".."):
        index = {"weight_map": {"conv_in.weight": name}}
        (path / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match="not a bare name"):
            read_base(path)


def copy_tree(source: Path, target: Path) -> Path:
    import shutil

    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


# Given as a ControlNet


def test_not_a_controlnet(folder: Path, tmp_path: Path, networks: Networks) -> None:
    for path, message in (
        (
            folder / "single.safetensors",
            r"not a ControlNet but a base model; give it as the base model \(--base\)",
        ),
        (folder / "model", "it holds .*unet.*: a base model"),
        (folder / "model/unet", "describes a UNet2DConditionModel; the ControlNet needs a ControlNetModel"),
        (folder / "lora.safetensors", "but a LoRA"),
        (tmp_path, "no config.json"),
        (tmp_path / "nothing", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_controlnet(path)
    odd = Component(
        {**networks["controlnet"].config, "controlnet_conditioning_channel_order": "hsv"},
        networks["controlnet"].weights,
        (),
    )
    with pytest.raises(CheckpointError, match="hsv order"):
        read_controlnet(tools.write_component(tmp_path / "hsv", odd))


# Keys and shapes


def test_keys_and_shapes(networks: Networks, folder: Path, tmp_path: Path) -> None:
    entries = tools.ldm_entries({k: n for k, n in networks.items() if k != "controlnet"})
    first = next(e for e in entries if e.name.endswith("middle_block.0.in_layers.2.weight"))

    def refused(message: str, changed: Callable[[list[Entry]], list[Entry]]) -> None:
        base_refused(
            write_safetensors(tmp_path / "x.safetensors", changed(entries), hollow=True), message, folder
        )

    refused(
        r"does not fit a UNet: 1 of 684 keys are missing: model\.diffusion_model\.middle_block\.0\.in",
        lambda all_: [e for e in all_ if e is not first],
    )
    refused(
        r"12 keys are unexpected: model\.diffusion_model\.extra\.0, .*, and 7 more",
        lambda all_: [
            *all_,
            *(Entry(f"model.diffusion_model.extra.{i}", (1,), torch.float32, first.read) for i in range(12)),
        ],
    )
    refused(
        r"1 shapes are wrong: .*middle_block\.0\.in_layers\.2\.weight is \[64, 64, 1, 1\], needed",
        lambda all_: [Entry(e.name, (64, 64, 1, 1), e.dtype, e.read) if e is first else e for e in all_],
    )
    refused(
        "weights of the dtype int32 are not supported",
        lambda all_: [Entry(e.name, e.shape, torch.int32, e.read) if e is first else e for e in all_],
    )
    refused(
        r"the VAE is incomplete: first_stage_model\.decoder\.conv_in\.weight is missing",
        lambda all_: [e for e in all_ if e.name != "first_stage_model.decoder.conv_in.weight"],
    )
    refused(
        "unknown arrangement of input_blocks",
        lambda all_: [e for e in all_ if ".input_blocks.5." not in e.name],
    )
    refused("give 32 numbers per token, the UNet takes 64", lambda _: _narrow_text(networks))


def _narrow_text(networks: Networks) -> list[Entry]:
    narrow = tools.random_component(TINY_CLIP_32)
    return tools.ldm_entries({"unet": networks["unet"], "vae": networks["vae"], "text_encoder": narrow})


def test_unknown_classes_and_configs() -> None:
    for config, message in (
        ({}, "class is None"),
        ({"_class_name": "StableDiffusionPipeline"}, "class is StableDiffusionPipeline"),
        ({"_class_name": "AutoencoderKL", "block_out_channels": "many"}, "does not describe"),
        ({"_class_name": "UNet2DConditionModel", "layers_per_block": -1}, "cannot be right"),
    ):
        with pytest.raises(CheckpointError, match=message):
            empty_module(config)
