"""Writes base models, ControlNets and LoRAs in every published layout, of any size, a tensor at a time.

A network is a `Component`: of a module that exists (`component_of`), or of a config with random weights that
are made when they are written (`random_component`): the default initialisation of each layer, seeded by its
name, so that activations stay finite and the zero convolutions of a ControlNet are not zero.
"""

from __future__ import annotations

import json
import math
import sys
import types
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from export.checkpoints import configs
from export.checkpoints.lazy import Component, TensorInfo
from export.checkpoints.ldm_names import open_clip_name, unet_names, vae_names
from export.checkpoints.modules import empty_module
from export.tokenizer import END, START, train_tokenizer

Layout = Literal["single_file", "ckpt", "diffusers"]
ControlLayout = Literal["control_model", "bare", "diffusers", "diffusers_file"]
CAPTIONS = [
    "an open palm",
    "a fist",
    "a hand that points",
    "two hands",
    "a person waves a hand",
    "fake 3D hands",
]

# The real architectures, small: four levels, SD 1's head count, SDXL's heads of 64 channels.
TINY_SD15 = {
    **configs.SD15,
    "block_out_channels": (32, 64, 64, 64),
    "cross_attention_dim": 64,
    "sample_size": 8,
}
TINY_SD15_INPAINT = {**TINY_SD15, "in_channels": 9}
TINY_CONTROLNET_SD15 = {
    **configs.CONTROLNET_SD15,
    "block_out_channels": (32, 64, 64, 64),
    "cross_attention_dim": 64,
}
_XL = {
    "block_out_channels": (64, 128, 128),
    "attention_head_dim": (1, 2, 2),
    "transformer_layers_per_block": (1, 1, 2),
    "cross_attention_dim": 96,
    "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 64 + 6 * 16,
}
TINY_SDXL = {**configs.SDXL, **_XL, "sample_size": 8}
TINY_CONTROLNET_SDXL = {**configs.CONTROLNET_SDXL, **_XL}
TINY_VAE = {**configs.VAE, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1, "sample_size": 64}
TINY_VAE_SDXL = {**configs.VAE_SDXL, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1}
VOCABULARY = 640
TINY_CLIP = {
    **configs.CLIP_L,
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "projection_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
}
TINY_CLIP_32 = {**TINY_CLIP, "hidden_size": 32, "intermediate_size": 64, "projection_dim": 32}
TINY_CLIP_2 = {**TINY_CLIP, "architectures": ("CLIPTextModelWithProjection",), "hidden_act": "gelu"}


# Networks


@dataclass(frozen=True)
class ModuleWeights:
    """The weights of a module that exists."""

    module: nn.Module

    def infos(self) -> dict[str, TensorInfo]:
        return {k: TensorInfo(tuple(v.shape), v.dtype) for k, v in self.module.state_dict().items()}

    def read(self, key: str) -> Tensor:
        return self.module.state_dict()[key].detach()


class RandomWeights:
    """Default initialisation of every layer of a module on "meta", seeded by seed and name; one in memory."""

    def __init__(self, module: nn.Module, seed: int) -> None:
        self.module, self.seed = module, seed
        self.last: tuple[str, dict[str, Tensor]] = ("", {})

    def infos(self) -> dict[str, TensorInfo]:
        return {k: TensorInfo(tuple(v.shape), torch.float32) for k, v in self.module.state_dict().items()}

    def read(self, key: str) -> Tensor:
        path, _, name = key.rpartition(".")
        if self.last[0] != path:
            self.last = (path, self._layer(path))
        return self.last[1][name]

    def _layer(self, path: str) -> dict[str, Tensor]:
        meta = self.module.get_submodule(path)
        seed = zlib.crc32(path.encode()) + 2**32 * self.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(meta, nn.Embedding):
                return {"weight": 0.02 * torch.randn(meta.weight.shape)}
            if isinstance(meta, nn.GroupNorm | nn.LayerNorm):  # not just ones and zeros: a mix-up must show
                return {
                    "weight": 1 + 0.1 * torch.randn(meta.weight.shape),
                    "bias": 0.1 * torch.randn(meta.bias.shape),
                }
            bound = 1 / math.sqrt(math.prod(meta.weight.shape[1:]))  # as Linear and Conv2d do
            return {
                name: torch.empty(value.shape).uniform_(-bound, bound)
                for name, value in meta.state_dict().items()
            }


def component_of(module: nn.Module) -> Component:
    """A component over the weights of a module of diffusers or transformers."""
    if hasattr(module.config, "to_dict"):
        config = {**module.config.to_dict(), "architectures": (type(module).__name__,)}
    else:
        config = {"_class_name": type(module).__name__, **dict(module.config)}
    return Component(config, ModuleWeights(module), ())


def random_component(config: Mapping[str, Any], seed: int = 0) -> Component:
    return Component(config, RandomWeights(empty_module(config), seed), ())


def random_networks(
    kind: Literal["sd15", "sdxl"], seed: int = 0, **parts: Mapping[str, Any]
) -> dict[str, Component]:
    """Networks of a full-size base model; `parts` are configs that replace those of SD 1.5 inpainting or SDXL."""
    if kind == "sd15":
        whole = {"unet": configs.SD15_INPAINT, "vae": configs.VAE, "text_encoder": configs.CLIP_L}
    else:
        whole = {
            "unet": configs.SDXL,
            "vae": configs.VAE_SDXL,
            "text_encoder": configs.CLIP_L,
            "text_encoder_2": configs.CLIP_BIGG,
        }
    return {name: random_component(config, seed) for name, config in {**whole, **parts}.items()}


def tiny_networks(
    kind: Literal["sd15", "sdxl"] = "sd15", inpaint: bool = True, seed: int = 0
) -> dict[str, Component]:
    channels = {"in_channels": 9 if inpaint else 4}
    if kind == "sd15":
        return random_networks(
            kind, seed, unet={**TINY_SD15, **channels}, vae=TINY_VAE, text_encoder=TINY_CLIP
        )
    return random_networks(
        kind,
        seed,
        unet={**TINY_SDXL, **channels},
        vae=TINY_VAE_SDXL,
        text_encoder=TINY_CLIP_32,
        text_encoder_2=TINY_CLIP_2,
    )


def load(component: Component) -> nn.Module:
    """The module of a component, with its weights, in float32."""
    module = empty_module(component.config)
    state = {key: component.weights.read(key).float() for key in module.state_dict()}
    module = module.to_empty(device="cpu")
    module.load_state_dict(state)
    # to_empty leaves buffers that are not saved undefined
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1])[None])
    return module.eval()


# Entries of a file: a name, what it is, and how to get it


@dataclass(frozen=True)
class Entry:
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


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


# Files

_CODES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


def _raw(entry: Entry) -> Any:
    value = entry.read().to(entry.dtype).contiguous()
    assert tuple(value.shape) == entry.shape, entry.name
    return value.reshape(-1).view(torch.uint8).numpy().data


def write_safetensors(
    path: Path, entries: Iterable[Entry], metadata: Mapping[str, str] | None = None
) -> Path:
    """The header first, from the shapes; then one tensor after another."""
    entries, header, at = list(entries), dict[str, Any](), 0
    if metadata:
        header["__metadata__"] = dict(metadata)
    for entry in entries:
        size = math.prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            file.write(_raw(entry))
    return path


def write_torch(
    path: Path,
    entries: Iterable[Entry],
    wrap: Callable[[dict[str, Tensor]], Any] = lambda state: {"state_dict": state},
) -> Path:
    """A file of torch.save: written with gaps for the data first, then filled one tensor after another."""
    entries = list(entries)
    # Memory that nobody touches: it takes addresses and no pages.
    state = {entry.name: torch.empty(entry.shape, dtype=entry.dtype) for entry in entries}
    content = wrap(state)
    with torch.serialization.skip_data():
        torch.save(content, path)
    written = torch.load(path, map_location="meta", weights_only=False)  # our own file
    state = written.get("state_dict", written)
    with path.open("r+b") as file:
        for entry in entries:
            file.seek(state[entry.name].untyped_storage()._checkpoint_offset)
            file.write(_raw(entry))
    return path


def lightning(optimiser_of: Iterable[str] = ()) -> Callable[[dict[str, Tensor]], Any]:
    """A whole training checkpoint of Lightning 1.4: counters, optimiser states, a class as a key."""

    def wrap(state: dict[str, Tensor]) -> Any:
        moments = [torch.zeros_like(state[name]) for name in optimiser_of]
        return {
            "epoch": 3,
            "global_step": 2307,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": state,
            "callbacks": {_trainer_class(): {"monitor": None, "best_model_path": ""}},
            "optimizer_states": [
                {
                    "state": {
                        i: {"step": 2307, "exp_avg": m, "exp_avg_sq": m} for i, m in enumerate(moments)
                    },
                    "param_groups": [
                        {"lr": 1e-5, "betas": (0.9, 0.999), "params": list(range(len(moments)))}
                    ],
                }
            ],
            "lr_schedulers": [],
        }

    return wrap


def _trainer_class() -> type:
    """pytorch_lightning's ModelCheckpoint by name; the published files have it as a key."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    if name not in sys.modules:
        for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
            sys.modules.setdefault(part, types.ModuleType(part))
        sys.modules[name].ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})  # type: ignore[attr-defined]
    return sys.modules[name].ModelCheckpoint  # type: ignore[no-any-return, attr-defined]


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
