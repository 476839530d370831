"""The networks that a task needs and their ports; a pack whose ports differ is refused when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

STEP_VARIANTS = ("step_keep", "step_reuse_control", "step_reuse_deep")  # networks for feature reuse
KEPT = "kept_"  # how the names of features begin that a step keeps for later ones
Extent = int | str  # a number is fixed; a letter stands for an extent that the pack or the caller chooses


@dataclass(frozen=True)
class Port:
    shape: tuple[Extent, ...]
    dtype: str = "float32"
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Role:
    """`kept`: the side that also has kept features, any number of ports named kept_...."""

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    optional: bool = False
    kept: Literal["", "inputs", "outputs"] = ""


@dataclass(frozen=True)
class Task:
    """`dynamic`: letters that must stay free (-1); `shared`: letters with one value in the whole pack."""

    roles: Mapping[str, Role]
    dynamic: frozenset[str] = field(default=frozenset({"N"}))
    shared: frozenset[str] = field(default=frozenset())


def _latent(channels: Extent) -> Port:
    return Port(("N", channels, "h", "w"))


_PICTURE = Port(("N", 3, "H", "W"))

_STEP = {
    "sample": _latent(4),
    "time": Port(("N", "E")),
    "context": Port(("N", "T", "K")),
    "hint": _latent("C0"),
    "inpaint": Port(("N", 5, "h", "w"), optional=True),
    "control_scale": Port(("N",)),
}
_PREDICTION = {"prediction": _latent(4)}
_REUSE = {
    "sample": _latent(4),
    "time": Port(("N", "E")),
    "context": Port(("N", "T", "K"), optional=True),
    "inpaint": Port(("N", 5, "h", "w"), optional=True),
}

# detector and mesh are optional: without them the caller has to give hands or a depth map and a mask.
# text_encoder_2, with the time's pooled and time_ids, is SDXL's; a step without inpaint is a plain model's.
HAND_REFINE = Task(
    roles={
        "detector": Role(
            inputs={"image": Port(("N", 3, 192, 192))},
            outputs={
                "score": Port(("N", 24, 24)),
                "center": Port(("N", 2, 24, 24)),
                "side": Port(("N", 24, 24)),
                "left": Port(("N", 24, 24)),
            },
            optional=True,
        ),
        "mesh": Role(
            inputs={"image": Port(("N", 3, "M", "M"))},
            outputs={
                "vertices": Port(("N", "V", 3)),
                "camera": Port(("N", 3)),
                "region": Port(("N", "M", "M"), optional=True),
            },
            optional=True,
        ),
        "text_encoder": Role(
            inputs={"input_ids": Port(("N", "T"), "int64")},
            outputs={"last_hidden_state": Port(("N", "T", "D1"))},
        ),
        "text_encoder_2": Role(
            inputs={"input_ids": Port(("N", "T"), "int64")},
            outputs={"last_hidden_state": Port(("N", "T", "D2")), "pooled": Port(("N", "P"))},
            optional=True,
        ),
        "vae_encoder": Role(inputs={"image": _PICTURE}, outputs={"mean": _latent(4), "logvar": _latent(4)}),
        "vae_decoder": Role(inputs={"latents": _latent(4)}, outputs={"image": _PICTURE}),
        "hint": Role(inputs={"depth": _PICTURE}, outputs={"hint": _latent("C0")}),
        "time": Role(
            inputs={
                "timestep": Port(("S",)),
                "pooled": Port(("S", "P"), optional=True),
                "time_ids": Port(("S", 6), optional=True),
            },
            outputs={"time": Port(("S", "E"))},
        ),
        "context": Role(
            inputs={"encoder_hidden_states": Port(("N", "T", "D"))},
            outputs={"context": Port(("N", "T", "K"))},
        ),
        "step": Role(inputs=_STEP, outputs=_PREDICTION),
        "step_keep": Role(inputs=_STEP, outputs=_PREDICTION, optional=True, kept="outputs"),
        "step_reuse_control": Role(inputs=_REUSE, outputs=_PREDICTION, optional=True, kept="inputs"),
        "step_reuse_deep": Role(inputs=_REUSE, outputs=_PREDICTION, optional=True, kept="inputs"),
    },
    dynamic=frozenset({"N", "S"}),
    shared=frozenset({"V", "M", "T", "D", "D1", "D2", "P", "C0", "E", "K"}),
)

TASKS: Mapping[str, Task] = {"hand-refine": HAND_REFINE}
