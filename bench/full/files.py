"""Checkpoints of full size with seeded random weights, the packs built of them, their networks in torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
CALIBRATED = 2  # pictures for int8, one of them to measure its error
Kind = Literal["sd15", "sdxl"]
SDXL_DEPTH = (1, 1, 1)  # transformer layers per level; published: 1, 2, 10


@dataclass(frozen=True)
class Files:
    """Where everything lies in the working folder.

    folder: some 20 GB are written to it.
    """

    folder: Path

    @property
    def pack(self) -> Path:
        return self.folder / "pack"

    @property
    def int8(self) -> Path:
        return self.folder / "pack-int8"

    @property
    def sdxl(self) -> Path:
        return self.folder / "pack-sdxl"

    def base(self, kind: Kind = "sd15") -> Path:
        return self.folder / kind / "model.safetensors"

    def tokenizer(self, kind: Kind = "sd15") -> Path:
        return self.folder / kind / "tokenizer"

    def controlnet(self, kind: Kind = "sd15") -> Path:
        return self.folder / kind / "controlnet.safetensors"

    def write(self, kind: Kind = "sd15") -> None:
        """The checkpoints as published when pruned: halves, one file, the ControlNet as control_model.*"""
        tools = _tools("checkpoint_tools")
        folder = self.folder / kind
        if kind == "sd15":
            tools.write_random_sd15(folder, half=True)
            tools.write_random_controlnet(self.controlnet(kind), half=True)
        else:
            tools.write_random_sdxl(folder, half=True, depth=SDXL_DEPTH, text_layers=2)
            tools.write_random_controlnet(self.controlnet(kind), half=True, kind=kind, depth=SDXL_DEPTH)

    def build_command(self, kind: Kind = "sd15") -> list[str]:
        """`hoirt pack build handrefiner` of these checkpoints."""
        out = self.pack if kind == "sd15" else self.sdxl
        return [
            *_hoirt("pack", "build", "handrefiner"),
            *("--base", str(self.base(kind)), "--tokenizer", str(self.tokenizer(kind))),
            *("--controlnet", str(self.controlnet(kind)), "--precision", "bf16", "-o", str(out)),
            *("--overwrite", "--quiet"),
        ]

    def quantize_command(self, threads: int) -> list[str]:
        """`hoirt pack quantize` of the built pack."""
        return [
            *_hoirt("pack", "quantize", str(self.pack), "-o", str(self.int8), "--overwrite"),
            *("--count", str(CALIBRATED), "--threads", str(threads)),
        ]

    def clear(self) -> None:
        """Deletes what was written, so that a run starts from nothing."""
        for path in (self.folder / "sd15", self.folder / "sdxl", self.pack, self.int8, self.sdxl):
            shutil.rmtree(path, ignore_errors=True)

    def modules(self, kind: Kind = "sd15") -> dict[str, Any]:
        """unet, controlnet, vae, text_encoder(s) in float32 as the torch classes, and tokenizer(s)."""
        from export.checkpoints import read_base, read_controlnet

        load = _tools("checkpoint_networks").load
        base = read_base(self.base(kind), tokenizer=self.tokenizer(kind))
        networks = {**base.components, "controlnet": read_controlnet(self.controlnet(kind), base)}
        loaded = {name: load(component).requires_grad_(False) for name, component in networks.items()}
        return {**loaded, "tokenizer": base.tokenizer}

    def pipeline(self, precision: str = "fp32") -> Any:
        """StableDiffusionControlNetInpaintPipeline of the checkpoints, with the pack's scheduler."""
        import diffusers
        import torch

        config = json.loads((self.pack / "pack.json").read_text())["scheduler"]
        pipeline: Any = diffusers.StableDiffusionControlNetInpaintPipeline(
            **self.modules(),
            scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision])


@dataclass(frozen=True)
class Ran:
    """A command that ended well: its seconds and the high-water mark of its memory in MiB."""

    seconds: float
    peak: float


def run(command: Sequence[str]) -> Ran:
    """Runs it and watches its memory; raises CalledProcessError if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, peak_of(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Ran(time.perf_counter() - start, peak)


def peak_of(pid: int | str) -> float:
    """VmHWM of a process in MiB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _hoirt(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from hoirt.cli.main import main; raise SystemExit(main())", *arguments]


def _tools(name: str) -> Any:
    """A module of tests/ that writes or loads checkpoints."""
    import importlib

    if str(ROOT / "tests") not in sys.path:
        sys.path.append(str(ROOT / "tests"))
    return importlib.import_module(name)
