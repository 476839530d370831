"""From a request to what will be built, by the headers of the files alone: networks, sizes, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hoirt.errors import InputError
from torch import Tensor, nn

from ..checkpoints import BaseModel, Component, check, empty_module, read_base, read_controlnet
from ..checkpoints.lora import with_lora
from ..graphs import make_graphs
from ..hollow import hollow
from ..weights_file import INLINE_BYTES, Storage
from .request import NEGATIVE, Request

STORAGE: Mapping[str, Storage] = {"fp32": "fp32", "bf16": "fp16", "fp16": "fp16", "int8": "fp16"}
PROCESS_BYTES = 700_000_000  # the interpreter with torch, and the graph of a full-size step
COPIES = 5  # of the largest weight, while it is read, converted and written
NOT_USED = {  # the module of these roles holds the whole autoencoder
    "vae_encoder": ("vae.decoder.", "vae.post_quant_conv."),
    "vae_decoder": ("vae.encoder.", "vae.quant_conv."),
}
FAMILIES = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}


@dataclass(frozen=True)
class Size:
    """parameters and bytes of a network as it will be written."""

    parameters: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """modules: by their names in `build_pack`, weights not in memory. sizes: by role. files: the sources, by
    component ("base", "controlnet", "lora 1" ...).
    """

    request: Request
    base: BaseModel
    controlnet: Component
    modules: Mapping[str, nn.Module]
    mesh: nn.Module | None
    constants: Mapping[str, np.ndarray] | None
    sizes: Mapping[str, Size]
    files: Mapping[str, tuple[Path, ...]]
    largest: int

    @property
    def storage(self) -> Storage:
        return STORAGE[self.request.precision]

    @property
    def bytes(self) -> int:
        return sum(size.bytes for size in self.sizes.values())

    @property
    def memory(self) -> int:
        """About the most memory that writing the networks will take."""
        return PROCESS_BYTES + COPIES * self.largest

    @property
    def missing(self) -> dict[str, str]:
        """What was not given, and what follows."""
        notes = {
            "--mesh": "no mesh network: refine() needs hands= with meshes, or depth=",
            "--hands": "no hand landmarker: refine() needs hands=, or depth=",
        }
        given = {"--mesh": self.request.mesh, "--hands": self.request.hands}
        return {option: note for option, note in notes.items() if given[option] is None}


def make_plan(request: Request) -> Plan:
    """Reads headers, checks keys and shapes. Raises InputError (CheckpointError) for what cannot be built."""
    request.check()
    base = read_base(request.base, tokenizer=request.tokenizer)
    for lora, scale in request.loras:
        base = with_lora(base, lora, scale)
    controlnet = read_controlnet(request.controlnet or request.base, base)
    components = {**base.components, "controlnet": controlnet}
    modules = {name: _module(component) for name, component in components.items()}
    mesh, constants = _mesh(request)
    try:
        graphs = make_graphs(**modules)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"{request.base}: {error}") from None
    storage = STORAGE[request.precision]
    sizes = {
        role: _size(role, graph, storage)
        for role, graph in {**graphs, **({} if mesh is None else {"mesh": mesh})}.items()
    }
    largest = max(4 * tensor.numel() for graph in graphs.values() for tensor in graph.parameters())
    return Plan(
        request, base, controlnet, modules, mesh, constants, sizes, _files(request, base, controlnet), largest
    )


def _module(component: Component) -> nn.Module:
    module = empty_module(component.config)
    check(component, module)
    return hollow(module, component.weights)


def _mesh(request: Request) -> tuple[nn.Module | None, Mapping[str, np.ndarray] | None]:
    if request.mesh is None or request.mano is None:
        return None, None
    from ..mesh_graphormer import build_mesh_network

    data = request.mesh_data or request.mesh.parent
    return build_mesh_network(request.mesh, request.mano, data, hollow=True)


def _files(request: Request, base: BaseModel, controlnet: Component) -> dict[str, tuple[Path, ...]]:
    parts = [file for component in base.components.values() for file in component.files]
    found = {"base": tuple(dict.fromkeys(parts)), "controlnet": tuple(controlnet.files)}
    for name, path in (("mesh", request.mesh), ("mano", request.mano), ("hands", request.hands)):
        if path is not None:
            found[name] = (
                (path,) if path.is_file() else tuple(p for p in sorted(path.rglob("*")) if p.is_file())
            )
    if request.mesh is not None:
        data = request.mesh_data or request.mesh.parent
        names = [
            "mano_downsampling.npz",
            *(f"mano_195_adjmat_{part}.pt" for part in ("indices", "values", "size")),
        ]
        found["mesh data"] = tuple(data / name for name in names if (data / name).is_file())
    return found | {f"lora {i + 1}": (path,) for i, (path, _) in enumerate(request.loras)}


def _size(role: str, graph: nn.Module, storage: Storage) -> Size:
    named = [*graph.named_parameters(), *graph.named_buffers()]
    tensors = [tensor for name, tensor in named if not name.startswith(NOT_USED.get(role, ("?",)))]
    return Size(sum(tensor.numel() for tensor in tensors), sum(_bytes(tensor, storage) for tensor in tensors))


def _bytes(tensor: Tensor, storage: Storage) -> int:
    """By the rule of `store_narrow`."""
    size = 4 * math.prod(tensor.shape)
    narrow = storage != "fp32" and size >= INLINE_BYTES and sum(extent > 1 for extent in tensor.shape) >= 2
    return size // 2 if narrow else size


def describe(plan: Plan) -> list[str]:
    """The plan as lines for a terminal."""
    request = plan.request
    inpaint = "inpainting" if plan.base.inpaints else "plain (not for inpainting)"
    lines = [
        f"{request.out}: a pack {request.pack_name!r}, {request.precision}, about {_gigabytes(plan.bytes)}",
        f"base: {FAMILIES[plan.base.kind]}, {inpaint}, {plan.base.layout}",
        *(f"  {note}" for note in plan.base.notes),
    ]
    for name, files in plan.files.items():
        size = sum(file.stat().st_size for file in files)
        shown = files[0].name if len(files) == 1 else f"{len(files)} files"
        lines.append(f"  from {name:<11} {shown}, {_gigabytes(size)}")
    lines.append("networks:")
    for role, extent in plan.sizes.items():
        lines.append(f"  {role:<15} {extent.parameters / 1e6:9.1f} M weights  {_gigabytes(extent.bytes):>9}")
    lines.append(f"memory while building: about {_gigabytes(plan.memory)}")
    lines += [f"not given: {option} ({note})" for option, note in plan.missing.items()]
    return lines


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def configuration(plan: Plan) -> dict[str, Any]:
    """The settings of the pack."""
    unet, vae, request = plan.modules["unet"].config, plan.modules["vae"].config, plan.request
    factor = 2 ** (len(vae.block_out_channels) - 1)
    multiple = factor * 2 ** (len(unet.block_out_channels) - 1)
    side = int(unet.sample_size or 64) * factor
    settings: dict[str, Any] = {
        "crop": max(multiple, side // multiple * multiple),
        "steps": request.steps,
        "guidance": request.guidance,
        "strength": request.strength,
        "negative_prompt": NEGATIVE,
        "detector_threshold": 0.6,
        "precision": "bf16" if request.precision == "int8" else request.precision,
    }
    if request.mesh is not None:
        settings["box_scale"] = 1.6  # MeshGraphormer's crops in HandRefiner
    return settings
