"""Base models of every layout: read_base()."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import CLIPTokenizer

from . import single_file
from .errors import CheckpointError, listed
from .files import open_tensors
from .folder import read_component, read_json
from .lazy import Component
from .tokenizers import for_single_file, read_tokenizer

Kind = Literal["sd15", "sdxl"]
FAMILIES = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}
_CHANNELS = {
    5: "a depth-to-image model",
    7: "an upscaler",
    8: "an InstructPix2Pix model",
}


@dataclass(frozen=True)
class BaseModel:
    """A text-to-image or inpainting model, its weights still on the disk.

    kind: "sd15" has one text encoder, "sdxl" two. The UNet takes 4 channels, or 9 if it is for inpainting.
    scheduler: a diffusers config with its `_class_name`. layout: "diffusers folder", "single file
    (safetensors)" or "single file (torch)". notes: what the files hold that is not used.
    """

    kind: Kind
    unet: Component
    vae: Component
    text_encoder: Component
    text_encoder_2: Component | None
    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer | None
    scheduler: Mapping[str, Any]
    layout: str
    notes: tuple[str, ...] = ()

    @property
    def components(self) -> dict[str, Component]:
        """All networks by the name of their folder in diffusers."""
        found = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}
        return found if self.text_encoder_2 is None else {**found, "text_encoder_2": self.text_encoder_2}

    @property
    def inpaints(self) -> bool:
        return int(self.unet.config["in_channels"]) == 9


def read_base(path: Path, *, tokenizer: Path | None = None, expect: Kind | None = None) -> BaseModel:
    """The base model in a folder of diffusers, a single-file .safetensors or an LDM .ckpt.

    tokenizer: folder of CLIP's tokenizer, needed for a single file; for a folder it replaces its own.
    expect: the family that is wanted; None: either.
    Raises CheckpointError: damaged, incomplete, not a base model (and what it is instead), another family,
    an unsupported number of input channels, no tokenizer, code in the file.
    """
    path = Path(path)
    base = _folder(path, tokenizer) if path.is_dir() else _file(path, tokenizer)
    channels = int(base.unet.config["in_channels"])
    if channels not in (4, 9):
        what = _CHANNELS.get(channels, "of no known purpose")
        raise CheckpointError(
            f"{path}: a UNet of {channels} input channels, {what}; supported are inpainting models (9 "
            "channels) and plain ones (4)"
        )
    if expect is not None and base.kind != expect:
        raise CheckpointError(
            f"{path}: a model of {FAMILIES[base.kind]}, where {FAMILIES[expect]} is expected"
        )
    _fits(base, path)
    return base


def check_pair(base: BaseModel, controlnet: Component) -> None:
    """Raises CheckpointError if the ControlNet is one for another base family."""
    family = "sdxl" if controlnet.config.get("addition_embed_type") == "text_time" else "sd15"
    where = controlnet.files[0] if controlnet.files else "the ControlNet"
    if family != base.kind:
        raise CheckpointError(
            f"{where}: a ControlNet for {FAMILIES[family]}, but the base model is {FAMILIES[base.kind]}"
        )
    for key in ("cross_attention_dim", "block_out_channels"):
        ours, theirs = base.unet.config.get(key), controlnet.config.get(key)
        if _listed(ours) != _listed(theirs):
            raise CheckpointError(
                f"{where}: a ControlNet for another base model: its {key} is {theirs}, the UNet's {ours}"
            )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _file(path: Path, tokenizer: Path | None) -> BaseModel:
    tensors = open_tensors(path)
    networks = single_file.read_single_file(tensors, path)
    tokenizers = for_single_file(tokenizer, 1 if networks.text_encoder_2 is None else 2)
    with path.open("rb") as file:
        is_torch = file.read(2) in (b"PK", b"\x80\x02")
    return BaseModel(
        kind=networks.kind,
        unet=networks.unet,
        vae=networks.vae,
        text_encoder=networks.text_encoder,
        text_encoder_2=networks.text_encoder_2,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1] if len(tokenizers) == 2 else None,
        scheduler=networks.scheduler,
        layout=f"single file ({'torch' if is_torch else 'safetensors'})",
        notes=tuple(single_file.notes(tensors)),
    )


def _folder(path: Path, tokenizer: Path | None) -> BaseModel:
    _require_folders(path)
    unet = read_component(path / "unet", ("UNet2DConditionModel",), "UNet")
    is_xl = unet.config.get("addition_embed_type") == "text_time"
    if is_xl and not (path / "text_encoder_2").is_dir():
        raise CheckpointError(f"{path}: an SDXL model without its folder text_encoder_2")
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    if "_class_name" not in scheduler:
        raise CheckpointError(f"{path / 'scheduler/scheduler_config.json'}: does not name its _class_name")
    if tokenizer is not None:
        tokenizers = for_single_file(tokenizer, 2 if is_xl else 1)
    else:
        folders = ("tokenizer", "tokenizer_2") if is_xl else ("tokenizer",)
        tokenizers = [read_tokenizer(path / name) for name in folders]
    return BaseModel(
        kind="sdxl" if is_xl else "sd15",
        unet=unet,
        vae=read_component(path / "vae", ("AutoencoderKL",), "VAE"),
        text_encoder=read_component(path / "text_encoder", ("CLIPTextModel",), "text encoder"),
        text_encoder_2=(
            read_component(path / "text_encoder_2", ("CLIPTextModelWithProjection",), "second text encoder")
            if is_xl
            else None
        ),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1] if is_xl else None,
        scheduler=scheduler,
        layout="diffusers folder",
    )


def _require_folders(path: Path) -> None:
    lacking = [name for name in ("unet", "vae", "text_encoder", "scheduler") if not (path / name).is_dir()]
    if not lacking:
        return
    if (path / "config.json").exists():
        name = read_json(path / "config.json").get("_class_name", "one network")
        hint = "; give it with --controlnet" if name == "ControlNetModel" else ""
        raise CheckpointError(f"{path}: not a base model but the folder of a {str(name)[:80]}{hint}")
    files = [file.name for file in sorted(path.iterdir()) if file.suffix in (".safetensors", ".ckpt")]
    hint = f"; give the file itself, such as {files[0]}" if files else ""
    raise CheckpointError(
        f"{path}: not a base model of diffusers: the folders {listed(lacking)} are missing{hint}"
    )


def _fits(base: BaseModel, path: Path) -> None:
    """The text encoders must give what the UNet takes, the VAE four channels."""
    width = sum(
        int(c.config.get("hidden_size", 512)) for n, c in base.components.items() if n.startswith("text")
    )
    wanted = base.unet.config.get("cross_attention_dim")
    if width != wanted:
        raise CheckpointError(
            f"{path}: the text encoders give {width} numbers per token, the UNet takes {wanted}: they "
            "belong to different models"
        )
    if base.vae.config.get("latent_channels", 4) != 4:
        raise CheckpointError(
            f"{path}: a VAE of {base.vae.config['latent_channels']} channels; 4 are supported"
        )
