"""Steps that reuse features of an earlier step: the full step that gives them, and shallow ones on them.

What a UNet computes at low resolution changes slowly from step to step, and so do a ControlNet's residuals.
"control" keeps the residuals, so that a step with reuse runs the UNet alone. "deep" also keeps what enters
the UNet's last up block (DeepCache, Ma et al. 2024), so that only the blocks of the highest resolution run:
first convolution, first down block, last up block. Both read the features of one and the same full step:

    role                  inputs                                         outputs
    step_keep             those of the step                              prediction, kept_control_0 ..
                                                                         kept_control_mid, kept_deep
    step_reuse_control    sample, time, context, inpaint, kept_control_* prediction
    step_reuse_deep       sample, time, context, inpaint, kept_deep,     prediction
                          kept_control_* of the first down block
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from .loop_invariants import Invariants
from .networks import StepGraph
from .onnx_export import Axes, Exporter, export_network
from .shared_weights import share_weights
from .streaming import export_network_streaming
from .weights_file import Storage

KEEP, CONTROL, DEEP = "step_keep", "step_reuse_control", "step_reuse_deep"
ROLES = (KEEP, CONTROL, DEEP)


class StepKeep(StepGraph):
    """The step, which also gives its features: prediction, the ControlNet's residuals (down, then mid; times
    control_scale), and what enters the UNet's last up block.
    """

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        """Raises ValueError for a UNet without at least two levels."""
        super().__init__(unet, controlnet)
        _check_levels(unet)
        self._seen: dict[str, Any] = {}
        self.controlnet.register_forward_hook(self._see_control)
        self.unet.up_blocks[-1].register_forward_pre_hook(self._see_deep, with_kwargs=True)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        prediction = super().forward(*inputs)
        down, mid = self._seen.pop("control")
        return prediction, *down, mid, self._seen.pop("deep")

    def _see_control(self, _module: nn.Module, _inputs: object, outputs: object) -> None:
        self._seen["control"] = outputs

    def _see_deep(self, _module: nn.Module, _inputs: object, named: Mapping[str, Tensor]) -> None:
        self._seen["deep"] = named["hidden_states"]


class _Reuse(nn.Module):
    """A step with reuse: the twin of the UNet, called with the inputs `names` in their order -> prediction.

    The ControlNet is needed for the columns of time and context, which it shares with the UNet.
    """

    names: list[str]

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__()
        _check_levels(unet)
        self.unet = Invariants.of({"unet": unet, "controlnet": controlnet}).twin("unet", unet)
        self.names = ["sample", "time", "context", *(["inpaint"] if unet.config.in_channels == 9 else [])]

    def latents(self, given: Mapping[str, Tensor]) -> Tensor:
        """What enters the UNet."""
        parts = [given[name] for name in ("sample", "inpaint") if name in given]
        return torch.cat(parts, dim=1)


class StepReuseControl(_Reuse):
    """The UNet alone, on kept residuals of the ControlNet."""

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__(unet, controlnet)
        self.kept = feature_names(unet)[:-1]
        self.names += self.kept

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        *down, mid = (given[name] for name in self.kept)
        prediction: Tensor = self.unet(
            self.latents(given),
            given["time"][:, 0],  # only its length is looked at
            given["context"],
            timestep_cond=given["time"],
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return prediction


class StepReuseDeep(_Reuse):
    """The blocks of the highest resolution alone: on what entered the last up block, and on the kept
    residuals of the skips that it reads. It takes the context only if these blocks have cross-attention.
    """

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__(unet, controlnet)
        twin = self.unet
        twin.down_blocks, twin.up_blocks = twin.down_blocks[:1], twin.up_blocks[-1:]
        twin.down_blocks[0].downsamplers = None  # its result goes to the deep blocks only
        del twin.mid_block
        self.kept = feature_names(unet)[: len(twin.up_blocks[0].resnets)]
        if not any(_reads_text(block) for block in (twin.down_blocks[0], twin.up_blocks[0])):
            self.names.remove("context")
        self.names += ["kept_deep", *self.kept]

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        unet, time = self.unet, given["time"]
        down, up = unet.down_blocks[0], unet.up_blocks[0]
        first = unet.conv_in(self.latents(given))
        _, states = down(hidden_states=first, temb=time, **_text(down, given))
        residuals = (given[name] for name in self.kept)
        skips = tuple(own + kept for own, kept in zip((first, *states), residuals, strict=True))
        deep = given["kept_deep"]
        out = up(hidden_states=deep, temb=time, res_hidden_states_tuple=skips, **_text(up, given))
        if unet.conv_norm_out:
            out = unet.conv_act(unet.conv_norm_out(out))
        prediction: Tensor = unet.conv_out(out)
        return prediction


def _reads_text(block: nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _text(block: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"encoder_hidden_states": given["context"]} if _reads_text(block) else {}


def _check_levels(unet: UNet2DConditionModel) -> None:
    if len(unet.down_blocks) < 2:
        raise ValueError("feature reuse needs a UNet of at least two levels, so that there is a deep part")


def feature_names(unet: UNet2DConditionModel) -> list[str]:
    """The names of what `StepKeep` gives besides the prediction, in its order."""
    skips = sum(len(block.resnets) for block in unet.up_blocks)
    return [*(f"kept_control_{i}" for i in range(skips)), "kept_control_mid", "kept_deep"]


def export_feature_reuse(
    folder: Path,
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    example: Mapping[str, Tensor],
    axes: Axes,
    storage: Storage = "fp32",
    exporter: Exporter = "trace",
) -> tuple[str, ...]:
    """Writes the graphs of ROLES beside the `step.onnx` of `folder`, whose weights they share; returns ROLES.

    example, axes: those that the step was exported with.
    """
    keep = StepKeep(unet, controlnet).eval()
    names = feature_names(unet)
    with torch.no_grad():
        made = dict(zip(names, keep(*example.values())[1:], strict=True))
    known = {**example, **made}
    height = example["sample"].shape[2]
    kept_axes = {name: _axes(tensor, height) for name, tensor in made.items()}
    modules = {CONTROL: StepReuseControl(unet, controlnet), DEEP: StepReuseDeep(unet, controlnet)}
    _export(keep, example, {**axes, **kept_axes}, folder / f"{KEEP}.onnx", storage, exporter)
    for role, module in modules.items():
        inputs = {name: known[name] for name in module.names}
        ports = {name: {**axes, **kept_axes}[name] for name in (*inputs, "prediction")}
        _export(module, inputs, ports, folder / f"{role}.onnx", storage, exporter)
    for role in ROLES:
        share_weights(folder / f"{role}.onnx", folder / "step.onnx")
    return ROLES


def _export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Axes,
    path: Path,
    storage: Storage,
    exporter: Exporter,
) -> None:
    """As the step is exported, so that the weights have the same bytes."""
    if exporter == "trace":
        export_network_streaming(module, inputs, axes, path, storage)
    else:
        export_network(module, inputs, axes, path, storage, exporter)


def _axes(feature: Tensor, height: int) -> dict[int, str]:
    """Free extents; those of a lower resolution have names of their own, h2 for half of h."""
    ratio = height // feature.shape[2]
    suffix = "" if ratio == 1 else str(ratio)
    return {0: "N", 2: f"h{suffix}", 3: f"w{suffix}"}
