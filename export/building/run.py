"""Carries a plan out: provenance, the key of the inputs, the pack, and its int8 twin."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import hoirt
import torch
import transformers
from hoirt.errors import InputError, PackError
from hoirt.packs import open_pack

from ..handrefiner import build_pack
from .licences import NOTES, licence_of
from .plan import FAMILIES, Plan, configuration, make_plan
from .progress import Progress, hash_files
from .request import Request

EXPORT_REVISION = 1  # raised when the same inputs give other networks
SPARE_BYTES = 64 << 20


def build(request: Request, quiet: bool = False) -> Path:
    """Builds the pack of a request and returns its folder; interrupted, it goes on where it stopped.

    Raises InputError (CheckpointError): the inputs do not serve. OSError: no room.
    """
    return carry_out(make_plan(request), quiet)


def carry_out(plan: Plan, quiet: bool = False) -> Path:
    """The same for a plan that is made."""
    request = plan.request
    target = request.out if request.precision != "int8" else _float_twin(request.out)
    _check_room(request.out, plan.bytes)
    hashes = hash_files(plan.files, quiet)
    sources = _sources(plan, hashes)
    key = _key(plan, sources)
    try:
        if not _is_built(target, key):
            with Progress(plan.sizes, quiet) as watch:
                build_pack(
                    out=target,
                    name=request.pack_name,
                    **plan.modules,  # type: ignore[arg-type]
                    tokenizer=plan.base.tokenizer,
                    tokenizer_2=plan.base.tokenizer_2,
                    scheduler_config=product_scheduler(plan.base.scheduler),
                    mesh=plan.mesh,
                    mesh_input=224,
                    constants=plan.constants,
                    landmarker=request.hands,
                    settings=configuration(plan),
                    description=_description(plan),
                    licence=_licence(plan),
                    provenance={"made_by": f"hoirt {hoirt.__version__}", "inputs": key, "sources": sources},
                    storage=plan.storage,
                    overwrite=request.overwrite or target != request.out,
                    key=key,
                    watch=watch,
                )
    except ValueError as error:  # of the exporter: it names the weight or the module
        raise InputError(f"{request.base}: {error}") from error
    if request.precision == "int8":
        _quantise(request, target)
    return request.out


def product_scheduler(base: Mapping[str, Any]) -> dict[str, Any]:
    """DPM-Solver++ 2M (Lu et al. 2022) on the noise schedule that the model was trained with; a diffusers
    config."""
    kept = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "prediction_type",
        "steps_offset",
    )
    return {
        "_class_name": "DPMSolverMultistepScheduler",
        **{name: base[name] for name in (*kept, "rescale_betas_zero_snr") if name in base},
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "timestep_spacing": "leading",
    }


def _float_twin(out: Path) -> Path:
    """Where the pack lies from which the int8 one is made."""
    return out.parent / f".{out.name}.float"


def _is_built(folder: Path, key: str) -> bool:
    """Whether the float twin of an interrupted int8 build is there."""
    if not folder.name.endswith(".float"):
        return False
    try:
        return bool(open_pack(folder).manifest.provenance.get("inputs") == key)
    except (InputError, PackError):
        return False


def _quantise(request: Request, float_twin: Path) -> None:
    from ..int8.pack import quantize_pack

    quantize_pack(float_twin, request.out, pictures=request.pictures, overwrite=request.overwrite, say=_say)
    shutil.rmtree(float_twin)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _check_room(out: Path, needed: int) -> None:
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise InputError(f"{folder} has {free / 1e9:.2f} GB free, the pack needs about {needed / 1e9:.2f} GB")


def _sources(plan: Plan, hashes: Mapping[Path, str]) -> dict[str, Any]:
    """By component: its files' names and sha256, its layout, its licence; no paths."""
    request, found = plan.request, dict[str, Any]()
    scales = {f"lora {i + 1}": scale for i, (_, scale) in enumerate(request.loras)}
    for name, files in plan.files.items():
        root = request.base if name == "base" else request.controlnet
        digests = {_shown(file, root): hashes[file] for file in files}
        kind = {"base": plan.base.kind, "mesh data": "mesh"}.get(name, name.split(" ")[0])
        found[name] = {"files": digests, "licence": licence_of(kind, digests)}
        if name in scales:
            found[name]["scale"] = scales[name]
    found["base"]["layout"] = plan.base.layout
    return found


def _shown(file: Path, root: Path | None) -> str:
    if root is not None and root.is_dir() and root in file.parents:
        return file.relative_to(root).as_posix()
    return file.name


def _key(plan: Plan, sources: Mapping[str, Any]) -> str:
    """Changes with whatever changes the pack."""
    request = plan.request
    facts = {
        "revision": EXPORT_REVISION,
        "versions": [
            hoirt.__version__,
            str(torch.__version__),
            diffusers.__version__,
            transformers.__version__,
        ],
        "sources": sources,
        "configs": {
            name: dict(component.config)
            for name, component in {**plan.base.components, "controlnet": plan.controlnet}.items()
        },
        "storage": plan.storage,
        "tokenizers": [
            str(tokenizer and tokenizer.backend_tokenizer.to_str())
            for tokenizer in (plan.base.tokenizer, plan.base.tokenizer_2)
        ],
        "settings": configuration(plan),
        "name": request.pack_name,
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _description(plan: Plan) -> str:
    what = "inpainting" if plan.base.inpaints else "plain"
    return f"HandRefiner on {FAMILIES[plan.base.kind]} ({what})"


def _licence(plan: Plan) -> str:
    parts = [NOTES[plan.base.kind], "ControlNet: " + NOTES["controlnet"]]
    parts += [NOTES[name] for name in ("mesh", "mano", "hands") if name in plan.files]
    return "; ".join(parts)
