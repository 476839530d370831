"""Writes base models, ControlNets and LoRAs in every published layout, of any size, a tensor at a time.

A network is a `Component`: `component_of(module)`, or with random weights (`checkpoint_networks`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from checkpoint_files import Entry, lightning, write_safetensors, write_torch
from checkpoint_networks import (
    TINY_CONTROLNET_SD15,
    TINY_CONTROLNET_SDXL,
    VOCABULARY,
    component_of,
    load,
    random_component,
    random_networks,
    tiny_networks,
)
from torch import Tensor

from export.checkpoints import configs
from export.checkpoints.lazy import Component, TensorInfo
from export.checkpoints.ldm_names import open_clip_name, unet_names, vae_names
from export.tokenizer import END, START, train_tokenizer

__all__ = [
    "TINY_CONTROLNET_SD15",
    "TINY_CONTROLNET_SDXL",
    "component_of",
    "load",
    "random_component",
    "random_networks",
    "tiny_networks",
]

Layout = Literal["single_file", "ckpt", "diffusers"]
LoraLayout = Literal["kohya", "kohya_ldm", "peft", "diffusers"]
LORA_LAYERS = r"attn\d?\.to_[qkv]|to_out\.0|ff\.net\.2|proj_in|conv1|[qv]_proj|fc1"
ControlLayout = Literal["control_model", "bare", "diffusers", "diffusers_file"]
CAPTIONS = ["an open palm", "a fist", "a hand that points", "two hands", "a person waves", "fake 3D hands"]


def entries_of(component: Component, rename: Callable[[str], str] = str, half: bool = False) -> list[Entry]:
    def entry(key: str, info: TensorInfo) -> Entry:
        dtype = torch.float16 if half else info.dtype
        return Entry(rename(key), info.shape, dtype, lambda: component.weights.read(key).to(dtype))

    return [entry(key, info) for key, info in component.weights.infos().items()]


def ldm_entries(networks: Mapping[str, Component], half: bool = False) -> list[Entry]:
    """A base model in the CompVis layout, its ControlNet (if any) as control_model.*."""
    unet, vae, clip = networks["unet"], networks["vae"], networks["text_encoder"]
    is_xl = "text_encoder_2" in networks
    text = (
        "conditioner.embedders.0.transformer.text_model."
        if is_xl
        else "cond_stage_model.transformer.text_model."
    )
    name, vae_name = unet_names(unet.config), vae_names(vae.config)
    found = entries_of(unet, lambda key: "model.diffusion_model." + name(key), half)
    found += [_as_convolution(e) for e in entries_of(vae, lambda k: "first_stage_model." + vae_name(k), half)]
    found += entries_of(clip, lambda key: text + key.removeprefix("text_model."), half)
    positions = int(clip.config["max_position_embeddings"])
    found.append(_constant(f"{text}embeddings.position_ids", torch.arange(positions)[None]))
    for buffer in ("betas", "alphas_cumprod", "sqrt_one_minus_alphas_cumprod"):
        found.append(_constant(buffer, torch.linspace(0, 1, 1000)))
    if is_xl:
        found += _open_clip_entries(networks["text_encoder_2"], "conditioner.embedders.1.model.", half)
    if "controlnet" in networks:
        found += controlnet_entries(networks["controlnet"], "control_model", half)
    return found


def controlnet_entries(controlnet: Component, layout: ControlLayout, half: bool = False) -> list[Entry]:
    if layout in ("diffusers", "diffusers_file"):
        return entries_of(controlnet, str, half)
    name = unet_names(controlnet.config)
    prefix = "control_model." if layout == "control_model" else ""
    return entries_of(controlnet, lambda key: prefix + name(key), half)


def _constant(name: str, value: Tensor) -> Entry:
    return Entry(name, tuple(value.shape), value.dtype, lambda: value)


def _as_convolution(entry: Entry) -> Entry:
    """The VAE's attention is made of 1x1 convolutions in the CompVis layout."""
    if ".attn_1." not in entry.name or len(entry.shape) != 2:
        return entry
    shape = (*entry.shape, 1, 1)
    return Entry(entry.name, shape, entry.dtype, lambda: entry.read().reshape(shape))


def _open_clip_entries(clip: Component, prefix: str, half: bool) -> list[Entry]:
    found, stacked = [], dict[str, list[Entry]]()
    for entry in entries_of(clip, str, half):
        name, third = open_clip_name(entry.name)
        if third is not None:
            stacked.setdefault(prefix + name, [entry] * 3)[third] = entry
        elif name == "text_projection":
            found.append(
                Entry(prefix + name, entry.shape[::-1], entry.dtype, lambda e=entry: e.read().T.contiguous())
            )
        else:
            found.append(Entry(prefix + name, entry.shape, entry.dtype, entry.read))
    for name, parts in stacked.items():
        shape = (3 * parts[0].shape[0], *parts[0].shape[1:])
        read = lambda parts=parts: torch.cat([part.read() for part in parts])  # noqa: E731
        found.append(Entry(name, shape, parts[0].dtype, read))
    found.append(_constant(prefix + "logit_scale", torch.tensor(4.6)))
    return found


def write_single_file(
    path: Path,
    networks: Mapping[str, Component],
    *,
    half: bool = False,
    extra: Iterable[Entry] = (),
    trained: bool = True,
) -> Path:
    """A base model in one file, .safetensors or .ckpt, of the CompVis layout.

    networks: unet, vae, text_encoder, for SDXL text_encoder_2, and optionally controlnet. trained: a .ckpt is
    a training checkpoint, with optimiser states for its ControlNet.
    """
    entries = [*ldm_entries(networks, half), *extra]
    if path.suffix == ".safetensors":
        return write_safetensors(path, entries)
    names = [e.name for e in entries if e.name.startswith("control_model.")]
    return write_torch(path, entries, lightning(names) if trained else lambda state: {"state_dict": state})


def write_component(
    folder: Path,
    component: Component,
    *,
    half: bool = False,
    suffix: str = ".safetensors",
    shards: int = 1,
    rename: Callable[[str], str] = str,
) -> Path:
    """A network in a folder as diffusers and transformers write it: config.json and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    is_text = "architectures" in component.config
    (folder / "config.json").write_text(json.dumps(dict(component.config)))
    stem = "model" if is_text else "diffusion_pytorch_model"
    entries = entries_of(component, rename, half)
    if suffix != ".safetensors":
        stem = "pytorch_model" if is_text else stem
        write_torch(folder / f"{stem}{suffix}", entries, lambda state: state)
    elif shards == 1:
        write_safetensors(folder / f"{stem}.safetensors", entries, {"format": "pt"})
    else:
        table = {}
        for i in range(shards):
            part = entries[i::shards]
            name = f"{stem}-{i + 1:05}-of-{shards:05}.safetensors"
            write_safetensors(folder / name, part, {"format": "pt"})
            table.update({entry.name: name for entry in part})
        index = {"metadata": {"total_size": 0}, "weight_map": table}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_diffusers_folder(
    out: Path,
    networks: Mapping[str, Component],
    *,
    half: bool = False,
    suffix: str = ".safetensors",
    shards: int = 1,
    scheduler: Mapping[str, Any] = configs.SCHEDULER,
) -> Path:
    """A base model as a folder of diffusers, with tokenizer and scheduler."""
    for name, component in networks.items():
        write_component(out / name, component, half=half, suffix=suffix, shards=shards)
    vocabulary = int(networks["text_encoder"].config["vocab_size"])
    write_tokenizer(out / "tokenizer", vocabulary)
    if "text_encoder_2" in networks:
        write_tokenizer(out / "tokenizer_2", vocabulary, pad_token="!")
    (out / "scheduler").mkdir(exist_ok=True)
    (out / "scheduler/scheduler_config.json").write_text(json.dumps(dict(scheduler)))
    (out / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return out


def write_controlnet(
    path: Path, controlnet: Component, *, layout: ControlLayout = "control_model", half: bool = False
) -> Path:
    """A ControlNet: a file (.safetensors, or .pth of torch), or a folder with layout "diffusers"."""
    if layout == "diffusers":
        return write_component(path, controlnet, half=half)
    entries = controlnet_entries(controlnet, layout, half)
    if path.suffix == ".safetensors":
        return write_safetensors(path, entries)
    return write_torch(path, entries, lambda state: state)


def write_lora(
    path: Path,
    networks: Mapping[str, Component],
    layout: LoraLayout = "kohya",
    *,
    rank: int = 3,
    alpha: float | None = 2.0,
    layers: str = LORA_LAYERS,
    seed: int = 7,
) -> Path:
    """A random LoRA of all weights whose key matches `layers`: attention, feed-forward and convolutions.

    alpha: None leaves it out, which means alpha = rank.
    """
    generator, entries = torch.Generator().manual_seed(seed), list[Entry]()
    for name, component in networks.items():
        ldm = unet_names(component.config) if layout == "kohya_ldm" and name == "unet" else str
        for key, info in component.weights.infos().items():
            if not re.search(layers, key) or not key.endswith(".weight") or name in ("vae", "controlnet"):
                continue
            out, *inner = info.shape
            module, (down, up) = _lora_names(name, ldm(key).removesuffix(".weight"), layout)
            first = torch.randn([rank, *inner], generator=generator) * 0.1
            second = torch.randn([out, rank, *[1] * (len(inner) - 1)], generator=generator) * 0.1
            entries += [
                _constant(f"{module}.{down}.weight", first),
                _constant(f"{module}.{up}.weight", second),
            ]
            if alpha is not None and layout.startswith("kohya"):
                entries.append(_constant(f"{module}.alpha", torch.tensor(alpha)))
    metadata = {}
    if layout == "peft" and alpha is not None:
        metadata["lora_adapter_metadata"] = json.dumps({f"{name}.lora_alpha": alpha for name in networks})
    return write_safetensors(path, entries, metadata)


def _lora_names(component: str, layer: str, layout: LoraLayout) -> tuple[str, tuple[str, str]]:
    if component.startswith("text"):
        layer = "text_model." + layer.removeprefix("text_model.")
    if layout.startswith("kohya"):
        short = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}[component]
        return f"lora_{short}_{layer.replace('.', '_')}", ("lora_down", "lora_up")
    parts = ("lora_A", "lora_B") if layout == "peft" else ("lora.down", "lora.up")
    return f"{component}.{layer}", parts


def write_tokenizer(
    folder: Path, vocabulary: int = VOCABULARY, pad_token: str = END, length: int = 77
) -> Path:
    """vocab.json and merges.txt of a small CLIP tokenizer; start and end are the last two ids, as in CLIP."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_tokenizer(CAPTIONS, vocab_size=min(vocabulary, 600), max_length=length)
    model = json.loads(trained.backend_tokenizer.to_str())["model"]
    words = [word for word in sorted(model["vocab"], key=model["vocab"].get) if word not in (START, END)]
    words += [f"<|unused{i}|>" for i in range(vocabulary - len(words) - 2)] + [START, END]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": pad_token,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


# Full size


def write_random_base(
    folder: Path, networks: Mapping[str, Component], layout: Layout = "single_file", half: bool = False
) -> tuple[Path, Path]:
    """A base model in `folder`, and its tokenizer's folder: (path of the model, path of the tokenizer)."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "diffusers":
        return write_diffusers_folder(folder / "model", networks, half=half), folder / "model"
    tokenizer = write_tokenizer(folder / "tokenizer", int(networks["text_encoder"].config["vocab_size"]))
    suffix = ".ckpt" if layout == "ckpt" else ".safetensors"
    return write_single_file(folder / f"model{suffix}", networks, half=half), tokenizer


def write_random_sd15(
    folder: Path, layout: Layout = "single_file", inpaint: bool = True, half: bool = False, seed: int = 0
) -> tuple[Path, Path]:
    """Stable Diffusion 1.5 at full size with random weights: (path of the model, path of the tokenizer)."""
    unet = configs.SD15_INPAINT if inpaint else configs.SD15
    return write_random_base(folder, random_networks("sd15", seed, unet=unet), layout, half)


def write_random_sdxl(
    folder: Path,
    layout: Layout = "single_file",
    inpaint: bool = False,
    half: bool = False,
    depth: tuple[int, ...] = (1, 2, 10),
    text_layers: int = 32,
    seed: int = 0,
) -> tuple[Path, Path]:
    """SDXL with random weights at full width; `depth` transformer layers per level, `text_layers` of bigG."""
    unet = {
        **configs.SDXL,
        "in_channels": 9 if inpaint else 4,
        "transformer_layers_per_block": depth,
    }
    second = {**configs.CLIP_BIGG, "num_hidden_layers": text_layers}
    return write_random_base(
        folder, random_networks("sdxl", seed, unet=unet, text_encoder_2=second), layout, half
    )


def write_random_controlnet(
    path: Path,
    layout: ControlLayout = "control_model",
    half: bool = False,
    kind: Literal["sd15", "sdxl"] = "sd15",
    depth: tuple[int, ...] = (1, 2, 10),
    seed: int = 1,
) -> Path:
    """A full-size ControlNet with random weights, none of them zero."""
    config = configs.CONTROLNET_SD15
    if kind == "sdxl":
        config = {**configs.CONTROLNET_SDXL, "transformer_layers_per_block": depth}
    return write_controlnet(path, random_component(config, seed), layout=layout, half=half)
