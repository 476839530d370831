"""Writes the bundled pack handrefiner-tiny from the finished training stages.

python -m export.tiny.build [--work .train] [--out python/hoirt/packs/data/handrefiner-tiny]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from hoirt.hands.model import HandModel
from torch import nn

from ..handrefiner import build_pack
from .models import SCHEDULER, TOKENS
from .train import detector, diffusion, mesh, vae

PACK = Path(__file__).parents[2] / "python" / "hoirt" / "packs" / "data" / "handrefiner-tiny"
SETTINGS = {
    "crop": 128,
    "steps": 20,
    "guidance": 1.5,
    "strength": 0.55,
    "negative_prompt": "",
    "detector_threshold": 0.4,
    "box_scale": 1.3,
    "mask": {"pad": 0.06, "feather": 0.03},
    "precision": "bf16",
}


def _half_precision(module: nn.Module) -> nn.Module:
    """Weights rounded to float16 values, as the pack stores them; computed with in float32."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half().float())
    return module.eval()


def build(work: Path, out: Path) -> Path:
    modules, tokenizer, scaling = diffusion.load(work)
    tokenizer.model_max_length = TOKENS
    autoencoder = vae.load(work)
    autoencoder.register_to_config(scaling_factor=scaling)
    hand = HandModel.load("right")
    stages = {p.stem: json.loads(p.read_text()) for p in sorted(work.glob("*.json"))}
    provenance = {
        "trained_by": "python -m export.tiny.train",
        "data": "synthetic pictures of a procedural hand, made by export/tiny/scenes",
        "stages": {
            name: {
                key: stages[name][key]
                for key in ("seed", "steps", "minutes", "device", "torch", "parameters")
            }
            for name in ("vae", "mesh", "detector", "diffusion")
            if name in stages
        },
    }
    return build_pack(
        out=out,
        name="handrefiner-tiny",
        unet=_half_precision(modules["unet"]),
        controlnet=_half_precision(modules["controlnet"]),
        vae=_half_precision(autoencoder),
        text_encoder=_half_precision(modules["text"]),
        tokenizer=tokenizer,
        scheduler_config=SCHEDULER,
        detector=_half_precision(detector.load(work)),
        mesh=_half_precision(mesh.load(work)),
        constants={"faces": hand.faces, "joint_regressor": hand.keypoint_regressor},
        settings=SETTINGS,
        description="HandRefiner at small scale: real classes, small widths, trained on synthetic hands.",
        licence="Apache-2.0",
        provenance=provenance,
        storage="fp16",
        overwrite=True,
        feature_reuse=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".train"))
    parser.add_argument("--out", type=Path, default=PACK)
    args = parser.parse_args()
    out = build(args.work, args.out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
