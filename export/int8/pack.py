"""A pack to an int8 pack: calibrated in its own denoising loop, written beside it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoirt import backends
from hoirt.errors import InputError
from hoirt.packs import Pack, open_pack
from hoirt.packs.manifest import MANIFEST
from hoirt.packs.tasks import STEP_VARIANTS

from ..calibration import from_folder, record_states, synthetic
from ..pack_writer import describe_network, new_pack, write_manifest
from .step import prediction_error, quantize_step

HELD = 1  # of the pictures: not calibrated with, the error is measured on it
PER_PICTURE = 4  # states
PRECISIONS = ("auto", "fp32", "bf16")  # to measure in


@dataclass(frozen=True)
class Report:
    """What was done.

    Attributes:
        path: of the new pack. layers, kept: how many layers are int8, and how many are not.
        states: number of calibration states. pictures: where they came from.
        error: relative difference of the predictions from those of the given pack, mean over the states of a
            picture that was not calibrated with.
        bytes_before, bytes_after: of the step's weights.
    """

    path: Path
    layers: int
    kept: int
    states: int
    pictures: str
    error: float
    bytes_before: int
    bytes_after: int


def quantize_pack(
    pack: str | os.PathLike[str],
    out: Path,
    *,
    pictures: Path | None = None,
    count: int = 8,
    precision: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Report:
    """Writes the int8 twin of a pack to the folder `out`: it appears when it is whole and verified.

    The twin has no graphs for feature reuse.

    Args:
        pack: name or folder of a pack that is not quantised.
        pictures: a folder of pictures with hands that the pack can find; None draws hands.
        count: of pictures to calibrate with, at least 1; one more is used to measure the error.
        precision: of the pack's networks while they are measured. say: told what is being done.

    Raises:
        InputError: the pack is quantised already, or the pictures do not serve.
        PackError: the pack is not sound. FileExistsError: `out` exists and `overwrite` is not set.
    """
    source = open_pack(pack)
    _check(source, Path(out), count, precision)
    if precision == "auto":
        borne = {"fp32", source.settings.precision}
        precision = next(p for p in backends.load().precisions() if p in borne and p in PRECISIONS)
    with new_pack(Path(out), overwrite=overwrite) as folder:
        say(f"recording what the step network is given, {precision}")
        size = source.settings.crop
        examples = synthetic(count + HELD, size) if pictures is None else from_folder(pictures, count + HELD)
        states = record_states(
            source.path, examples, per_example=PER_PICTURE, precision=precision, threads=threads
        )
        held = PER_PICTURE if len(states) > PER_PICTURE else 0
        states, unseen = states[: len(states) - held], states[-PER_PICTURE:]
        say(f"measuring activations on {len(states)} states")
        # The step's variants for feature reuse read the float weights of the step, so they go with these.
        dropped = [role for role in source.manifest.networks if role in STEP_VARIANTS]
        replaced = {name for role in ("step", *dropped) for name in source.network_files(role)}
        for name in source.manifest.files:
            if name not in replaced:
                shutil.copyfile(source.path / name, folder / name)
        step = source.network_file("step")
        done = quantize_step(step, folder / "step.onnx", states, precision=precision, threads=threads or 0)
        say("measuring the error of the prediction")
        errors = prediction_error(
            step, folder / "step.onnx", unseen, precision=(precision, precision), threads=threads or 0
        )
        report = Report(
            path=Path(out),
            layers=len(done.layers),
            kept=len(done.kept),
            states=len(states),
            pictures="drawn" if pictures is None else "given",
            error=sum(errors) / len(errors),
            bytes_before=_bytes(source.path, replaced),
            bytes_after=_bytes(folder, {"step.onnx", "step.bin"}),
        )
        write_manifest(folder, _manifest(source, folder, report))
        Pack(folder).verify(full=True)
    return report


def _check(source: Pack, out: Path, count: int, precision: str) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if count < 1:
        raise InputError(f"calibration needs at least 1 picture, not {count}")
    if source.settings.precision == "int8":
        raise InputError(f"the pack {source.name} is quantised already; give the pack that it was made from")
    if out.resolve() == source.path.resolve():
        raise InputError(f"{out} is the pack that is quantised; choose another folder")


def _bytes(folder: Path, names: set[str]) -> int:
    return sum((folder / name).stat().st_size for name in names)


def _manifest(source: Pack, folder: Path, report: Report) -> dict[str, Any]:
    """The given pack's, with the new step, and what is known of it."""
    manifest: dict[str, Any] = json.loads((source.path / MANIFEST).read_text(encoding="utf-8"))
    for key in ("schema", "files"):  # written anew
        del manifest[key]
    for role in STEP_VARIANTS:
        manifest["networks"].pop(role, None)
    manifest["networks"]["step"] = describe_network(folder / "step.onnx")
    manifest["settings"]["precision"] = "int8"
    manifest["provenance"] = {
        **manifest.get("provenance", {}),
        "int8": {
            "layers": report.layers,
            "states": report.states,
            "pictures": report.pictures,
            "error": round(report.error, 4),
        },
    }
    return manifest
