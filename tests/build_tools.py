"""Files to build packs from, and the networks of a built pack run as the loop would feed them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import checkpoint_tools as tools
import onnxruntime
import torch
from checkpoint_networks import TINY_SD15

from export.building import run as running
from export.building.request import Request
from export.checkpoints import Component

# Stable Diffusion 1.5 with two of its four levels: half the time of a build goes by nodes, not by weights.
LEVELS = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
}
UNET = {**TINY_SD15, **LEVELS, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
CONTROL = {"sd15": {**tools.TINY_CONTROLNET_SD15, **LEVELS}, "sdxl": tools.TINY_CONTROLNET_SDXL}


@dataclass(frozen=True)
class Built:
    """A pack, alone in its folder, and the networks that it was built from."""

    path: Path
    networks: dict[str, Component]


def write_sources(
    folder: Path,
    kind: Literal["sd15", "sdxl"],
    layout: tools.Layout,
    inpaint: bool = True,
    control: tools.ControlLayout = "control_model",
) -> dict[str, Any]:
    """Files of a tiny base model and ControlNet in a layout, with the components they were written from."""
    networks = tools.tiny_networks(kind, inpaint)
    if kind == "sd15":
        networks["unet"] = tools.random_component({**UNET, "in_channels": 9 if inpaint else 4})
    base, tokenizer = tools.write_random_base(folder, networks, layout)
    controlnet = tools.random_component(CONTROL[kind], 1)
    suffix = "" if control == "diffusers" else ".safetensors"
    path = tools.write_controlnet(folder / f"cn{suffix}", controlnet, layout=control)
    return {
        "base": base,
        "controlnet": path,
        "tokenizer": None if layout == "diffusers" else tokenizer,
        "networks": {**networks, "controlnet": controlnet},
    }


def request_of(files: dict[str, Any], out: Path, **more: Any) -> Request:
    return Request(files["base"], out, files["controlnet"], tokenizer=files["tokenizer"], **more)


def build_from(folder: Path, kind: Literal["sd15", "sdxl"], layout: tools.Layout, **more: Any) -> Built:
    """A pack of `write_sources(..., kind, layout, **more)`."""
    files = write_sources(folder, kind, layout, **more)
    (folder / "built").mkdir()
    out = running.build(request_of(files, folder / "built" / "pack"), quiet=True)
    return Built(out, files["networks"])


def run_onnx(pack: Path, role: str, feed: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(pack / f"{role}.onnx", options, ["CPUExecutionProvider"])
    results = session.run(None, {name: tensor.numpy() for name, tensor in feed.items()})
    return [torch.from_numpy(result) for result in results]


@torch.no_grad()
def step_of_pack(
    pack: Path, networks: dict[str, Component], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The prediction of the pack's graphs, chained as in the loop, and that of diffusers and transformers."""
    generator = torch.Generator().manual_seed(seed)
    unet, controlnet = tools.load(networks["unet"]), tools.load(networks["controlnet"])
    is_xl = "text_encoder_2" in networks
    channels = unet.config["in_channels"]
    ids = torch.randint(5, 600, (2, 77), generator=generator)
    ids[:, 0], ids[:, 20:] = tools.VOCABULARY - 2, tools.VOCABULARY - 1
    sample = torch.randn(2, 4, 16, 8, generator=generator)
    inpaint = torch.randn(2, channels - 4, 16, 8, generator=generator)
    depth = torch.rand(2, 3, 128, 64, generator=generator)
    timestep, scale = torch.tensor([801.0, 13.0]), torch.tensor([0.55, 0.55])

    # The reference: the classes used as their authors use them.
    text = tools.load(networks["text_encoder"])
    added: dict[str, torch.Tensor] = {}
    if is_xl:
        first = text(ids, output_hidden_states=True).hidden_states[-2]
        second = tools.load(networks["text_encoder_2"])(ids, output_hidden_states=True)
        states = torch.cat([first, second.hidden_states[-2]], dim=-1)
        sizes = torch.tensor([[128.0, 64, 0, 0, 128, 64]] * 2)
        added = {"text_embeds": second.text_embeds, "time_ids": sizes}
    else:
        states = text(ids).last_hidden_state
    down, mid = controlnet(sample, timestep, states, depth, 0.55, added_cond_kwargs=added, return_dict=False)
    expected = unet(
        torch.cat([sample, inpaint], dim=1),
        timestep,
        states,
        added_cond_kwargs=added,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
    ).sample

    # The pack.
    found = run_onnx(pack, "text_encoder", {"input_ids": ids})
    extra: dict[str, torch.Tensor] = {}
    if is_xl:
        hidden, pooled = run_onnx(pack, "text_encoder_2", {"input_ids": ids})
        found = [torch.cat([found[0], hidden], dim=-1)]
        extra = {"pooled": pooled, "time_ids": added["time_ids"]}
    feed = {
        "sample": sample,
        "time": run_onnx(pack, "time", {"timestep": timestep, **extra})[0],
        "context": run_onnx(pack, "context", {"encoder_hidden_states": found[0]})[0],
        "hint": run_onnx(pack, "hint", {"depth": depth})[0],
        **({"inpaint": inpaint} if channels == 9 else {}),
        "control_scale": scale,
    }
    return run_onnx(pack, "step", feed)[0], expected


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# From files to packs
