"""Adds the graphs for feature reuse to a finished pack, from the pack's own files; nothing is trained again.

python -m export.tiny.feature_reuse [--pack python/hoirt/packs/data/handrefiner-tiny]

The networks are rebuilt in torch from the weights in the pack. The pack's other files are copied as they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from hoirt.packs import Pack
from torch import Tensor

from bench.peer import make_modules

from ..feature_reuse import ROLES, export_feature_reuse
from ..handrefiner import AXES
from ..pack_writer import describe_network, new_pack, write_manifest
from .build import PACK


def add_feature_reuse(folder: Path) -> None:
    """Replaces the pack in `folder` by one that has the graphs too. Raises PackError if it is damaged."""
    pack = Pack(folder)
    pack.verify(full=True)
    modules = make_modules(pack)
    manifest = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    with new_pack(folder, overwrite=True) as work:
        for name in manifest.pop("files"):
            if not name.startswith(ROLES):
                shutil.copyfile(folder / name, work / name)
        storage = pack.settings.storage
        export_feature_reuse(
            work, modules["unet"], modules["controlnet"], _example(pack), AXES["step"], storage
        )
        networks = manifest["networks"] | {role: describe_network(work / f"{role}.onnx") for role in ROLES}
        manifest["networks"] = {role: networks[role] for role in sorted(networks)}
        del manifest["schema"]  # written anew
        write_manifest(work, manifest)
        Pack(work).verify(full=True)


def _example(pack: Pack) -> dict[str, Tensor]:
    """Inputs of the step to trace with: batch 2, height and width differ."""
    cells = pack.settings.size_multiple // pack.settings.vae.factor
    free = {0: 2, 2: 2 * cells, 3: 3 * cells}
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(
            [free[axis] if extent == -1 else extent for axis, extent in enumerate(port.shape)],
            generator=generator,
        )
        for name, port in pack.manifest.networks["step"].inputs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, default=PACK)
    add_feature_reuse(parser.parse_args().pack)


if __name__ == "__main__":
    main()
