"""What does not change over the denoising steps, taken out of UNet and ControlNet: time and text projections.

Every residual block projects the time embedding, and every cross-attention projects the text to keys and
values. Both are known before the loop starts. Here they become two networks of their own (`TimeGraph`,
`ContextGraph`) whose outputs lie side by side in one tensor, and the step gets twins of UNet and ControlNet
that read their columns of it. The twins share all weights; the given modules are not touched.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

Model = UNet2DConditionModel | ControlNetModel


class _Columns(nn.Module):
    """Stands in for a projection: its columns of what was projected before."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, projected: Tensor) -> Tensor:
        return projected[..., self.start : self.stop]


class _Projected(nn.Module):
    """Stands in for the time embedding: hands its condition on, which holds the projected time."""

    def forward(self, _: Tensor, projected: Tensor) -> Tensor:
        return projected


@dataclass(frozen=True)
class Invariants:
    """The projections of UNet and ControlNet in the order of their columns, by path ("unet.mid_block...")."""

    time: dict[str, nn.Linear]
    context: dict[str, nn.Linear]

    @classmethod
    def of(cls, models: dict[str, Model]) -> Invariants:
        """Raises ValueError for a model that uses time or text in a way that this split does not know."""
        time: dict[str, nn.Linear] = {}
        context: dict[str, nn.Linear] = {}
        for name, model in models.items():
            _check(name, model)
            for path, module in model.named_modules(prefix=name):
                if isinstance(module, ResnetBlock2D) and module.time_emb_proj is not None:
                    if module.skip_time_act:
                        raise ValueError(f"{path} projects the time without its activation")
                    time[f"{path}.time_emb_proj"] = module.time_emb_proj
                elif isinstance(module, Attention) and module.is_cross_attention:
                    if module.norm_cross or module.added_kv_proj_dim is not None:
                        raise ValueError(f"{path} changes the text before it projects it")
                    context |= {f"{path}.{key}": getattr(module, key) for key in ("to_k", "to_v")}
        return cls(time, context)

    def twin(self, name: str, model: Model) -> Model:
        """The model without its projections: `timestep_cond` takes the projected time (N, E), and
        `encoder_hidden_states` the projected text (N, T, K).
        """
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        twin: Model = copy.deepcopy(model, shared)
        twin.time_proj, twin.time_embedding = nn.Identity(), _Projected()
        if model.config.addition_embed_type is not None:  # it is part of the projected time
            twin.add_time_proj = twin.add_embedding = None
            twin.register_to_config(addition_embed_type=None)
        for projections in (self.time, self.context):
            stops = [0, *accumulate(layer.out_features for layer in projections.values())]
            for path, (start, stop) in zip(projections, pairwise(stops), strict=True):
                owner, _, rest = path.partition(".")
                if owner == name:
                    parent, _, child = rest.rpartition(".")
                    setattr(twin.get_submodule(parent), child, _Columns(start, stop))
        for module in twin.modules():
            if isinstance(module, ResnetBlock2D):
                module.skip_time_act = True  # the activation was applied before the projection
        return twin


class _Tree(nn.Module):
    """Layers under their paths, called level by level, so that every node of the graph keeps its path."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        children: dict[str, dict[str, nn.Module]] = {}
        for path, layer in layers.items():
            head, _, rest = path.partition(".")
            if rest:
                children.setdefault(head, {})[rest] = layer
            else:
                self.add_module(head, layer)
        for head, inner in children.items():
            self.add_module(head, _Tree(inner))

    def forward(self, path: str, value: Tensor) -> Tensor:
        head, _, rest = path.partition(".")
        child = self.get_submodule(head)
        result: Tensor = child(rest, value) if rest else child(value)
        return result


class TimeGraph(nn.Module):
    """timestep (S,) -> time (S,E): the time projections of all residual blocks, UNet first.

    SDXL's also takes pooled (S,P), the second text encoder's projected state, and time_ids (S,6): the
    original size, the crop's corner and the target size, each as height and width in pixels.
    """

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__()
        models: dict[str, Model] = {"unet": unet, "controlnet": controlnet}
        self.projections = Invariants.of(models).time
        self.adds = unet.config.addition_embed_type is not None
        parts = ["time_proj", "time_embedding", *(("add_time_proj", "add_embedding") if self.adds else ())]
        embeddings: dict[str, nn.Module] = {
            f"{name}.{part}": getattr(model, part) for name, model in models.items() for part in parts
        }
        self.models = _Tree({**embeddings, **self.projections})

    def forward(self, timestep: Tensor, *added: Tensor) -> Tensor:
        def embedded(name: str) -> Tensor:
            result = self.models(f"{name}.time_embedding", self.models(f"{name}.time_proj", timestep))
            if self.adds:
                pooled, time_ids = added
                sizes = self.models(f"{name}.add_time_proj", time_ids.flatten()).reshape(pooled.shape[0], -1)
                result = result + self.models(f"{name}.add_embedding", torch.cat([pooled, sizes], dim=-1))
            return nn.functional.silu(result)

        times = {name: embedded(name) for name in ("unet", "controlnet")}
        return torch.cat([self.models(p, times[p.partition(".")[0]]) for p in self.projections], dim=-1)


class ContextGraph(nn.Module):
    """encoder_hidden_states (N,T,D) -> context (N,T,K): keys and values of all cross-attentions."""

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.projections = Invariants.of({"unet": unet, "controlnet": controlnet}).context
        self.models = _Tree(dict(self.projections))

    def forward(self, encoder_hidden_states: Tensor) -> Tensor:
        return torch.cat([self.models(path, encoder_hidden_states) for path in self.projections], dim=-1)


def _check(name: str, model: Model) -> None:
    config = model.config
    unknown = (
        "class_embed_type",
        "encoder_hid_dim",
        "time_embedding_act_fn",
        "time_cond_proj_dim",
    )
    used = [key for key in unknown if config.get(key) is not None]
    if used:
        raise ValueError(f"{name} uses {', '.join(used)}, which this exporter does not know")
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise ValueError(
            f"{name} has the addition_embed_type {config.addition_embed_type}; text_time is known"
        )
