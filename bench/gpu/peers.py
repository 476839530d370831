"""What hoirt is measured beside: torch.compile, diffusers where it is installed, ONNX Runtime where it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from bench.gpu.networks import Networks

Call = Callable[[], Any]
Peer = Callable[["Networks", nn.Module], tuple[Call | None, str]]  # the call, or None and the reason


def torch_compile(mode: str) -> Peer:
    """A mode with CUDA graphs of torch's own, and no break of the graph."""

    def peer(networks: Networks, whole: nn.Module) -> tuple[Call | None, str]:
        call = networks.compiled(mode)

        def run() -> Tensor:
            with torch.inference_mode():
                out: Tensor = call(*networks.inputs)
                return out

        return run, ""

    return peer


def compiled_step(networks: Networks, whole: nn.Module, mode: str) -> Any:
    """torch.compile without a break of the graph; on the CPU the graph alone, without its compiler."""
    if not networks.session.on_gpu:
        return torch.compile(whole, backend="eager", fullgraph=True)
    return torch.compile(whole, mode=mode, fullgraph=True)


def diffusers_eager(networks: Networks, whole: nn.Module) -> tuple[Call | None, str]:
    """Its own classes with the same weights, called as its pipelines call them."""
    if importlib.util.find_spec("diffusers") is None:
        return None, "diffusers is not installed; torch eager above is the same arithmetic without it"
    config, session = networks.job.config, networks.session
    unet, control = diffusers_modules(config, networks.job.control)
    step = networks.step
    unet.load_state_dict(step.unet.state_dict())
    unet = unet.to(session.device, networks.kind).eval()
    if control is not None and step.controlnet is not None:
        control.load_state_dict(step.controlnet.state_dict())
        control = control.to(session.device, networks.kind).eval()
    sample, timestep, text, *more = networks.inputs

    def run() -> Tensor:
        with torch.inference_mode():
            if control is None:
                # The sizes' waves are its own to compute, so the pooled states are what is left of the input.
                ids = torch.zeros(len(sample), 6, device=sample.device)
                added = {"text_embeds": more[0][:, : -6 * size_width(config)], "time_ids": ids}
                out: Tensor = unet(sample, timestep, text, added_cond_kwargs=added, return_dict=False)[0]
                return out
            depth, inpaint, _ = more
            down, mid = control(sample, timestep, text, depth, conditioning_scale=0.55, return_dict=False)
            joined = torch.cat([sample, inpaint], 1)
            made: Tensor = unet(
                joined, timestep, text, return_dict=False,
                down_block_additional_residuals=down, mid_block_additional_residual=mid,
            )[0]  # fmt: skip
            return made

    return run, ""


def size_width(config: Any) -> int:
    """Of SDXL's waves of one number among its sizes."""
    return 256 if config.pooled > 1000 else 8


def diffusers_modules(config: Any, control: bool) -> tuple[Any, Any]:
    """diffusers' UNet, and its ControlNet or None, of a Config."""
    import diffusers

    cross = [f"{'CrossAttn' if depth else ''}DownBlock2D" for depth in config.depth]
    up = [f"{'CrossAttn' if depth else ''}UpBlock2D" for depth in reversed(config.depth)]
    arguments: dict[str, Any] = {
        "block_out_channels": config.channels,
        "down_block_types": cross,
        "cross_attention_dim": config.context,
        "attention_head_dim": config.heads,
        "transformer_layers_per_block": [max(1, depth) for depth in config.depth],
        "use_linear_projection": config.linear,
        "layers_per_block": config.layers,
        "norm_num_groups": config.groups,
    }
    if config.pooled:
        arguments |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": size_width(config),
            "projection_class_embeddings_input_dim": config.pooled,
        }
    unet = diffusers.UNet2DConditionModel(in_channels=config.inputs, up_block_types=up, **arguments)
    if not control:
        return unet, None
    net = diffusers.ControlNetModel(
        in_channels=4, conditioning_embedding_out_channels=config.hint, **arguments
    )
    return unet, net


def onnxruntime_session(networks: Networks, whole: nn.Module) -> tuple[Call | None, str]:
    """ONNX Runtime on an export of the same module, inputs and outputs bound where they lie."""
    missing = [p for p in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(p) is None]
    if missing:
        return None, f"needs {', '.join(missing)}"
    import onnxruntime

    gpu = networks.session.on_gpu
    provider = "CUDAExecutionProvider" if gpu else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        return None, f"this onnxruntime has no {provider}"
    kind = torch.float16 if gpu else torch.float32
    inputs = [value if i == 1 else value.to(kind) for i, value in enumerate(networks.inputs)]
    path = Path(networks.session.work) / f"{networks.job.stage}-peer.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"input_{i}" for i in range(len(inputs))]
    whole.to(kind)
    torch.onnx.export(
        whole,
        tuple(inputs),
        str(path),
        dynamo=False,
        opset_version=18,
        input_names=names,
        output_names=["out"],
    )
    whole.to(networks.kind)
    session = onnxruntime.InferenceSession(str(path), providers=[provider])
    binding, out = session.io_binding(), torch.empty_like(inputs[0])
    place, index = inputs[0].device.type, inputs[0].device.index or 0
    numpy_kind = {torch.float16: "float16", torch.float32: "float32"}
    for name, value in zip(names, inputs, strict=True):
        value = value.contiguous()
        binding.bind_input(name, place, index, numpy_kind[value.dtype], tuple(value.shape), value.data_ptr())
    binding.bind_output("out", place, index, numpy_kind[kind], tuple(out.shape), out.data_ptr())
    return lambda keep=(inputs, out): session.run_with_iobinding(binding), ""


PLAIN, MOST = "reduce-overhead", "max-autotune"
QUICK: dict[str, Peer] = {"diffusers eager": diffusers_eager, "onnxruntime": onnxruntime_session}
COMPILED: dict[str, Peer] = {"torch.compile": torch_compile(PLAIN)}
TUNED: dict[str, Peer] = {"torch.compile, max-autotune": torch_compile(MOST)}
