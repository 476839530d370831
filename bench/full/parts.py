"""What bench.full_size measures, a function for each part; every part runs in a process of its own."""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.full.files import ROOT, Files, peak_of, run
from bench.record import Figure
from bench.stopwatch import Seconds, in_turns

# What the prototype reached is 3.4, 2.0 and 5.1; these are the bounds.
FP32, BF16, INT8 = 3.2, 1.9, 4.8
ERRORS = {"fp32": 1e-3, "bf16": 3e-2, "int8": None}
Part = Callable[[Files, int, int], list[Figure]]


def build(files: Files, _threads: int, _rounds: int) -> list[Figure]:
    """Checkpoints and a pack from nothing, by the real command."""
    files.clear()
    files.write()
    made = run(files.build_command())
    step = (files.pack / "step.bin").stat().st_size / 2**20
    return [
        Figure("hoirt pack build", made.seconds, "s"),
        Figure("hoirt pack build, peak memory", made.peak, "MiB"),
        Figure("hoirt pack build, peak memory / largest network", made.peak / step, "x", 1.3),
    ]


def quantize(files: Files, threads: int, _rounds: int) -> list[Figure]:
    """The int8 pack of the built pack; the parts after it leave int8 out if it is not there."""
    quantized = run(files.quantize_command(threads))
    return [
        Figure("hoirt pack quantize", quantized.seconds, "s", note="calibration on two pictures"),
        Figure("hoirt pack quantize, peak memory", quantized.peak, "MiB"),
    ]


def parity(files: Files, threads: int, _rounds: int) -> list[Figure]:
    """The prediction of one step beside that of the diffusers classes in float32."""
    return _parity(files, threads, "step", {"fp32": files.pack, "bf16": files.pack, "int8": files.int8})


def sdxl(files: Files, threads: int, _rounds: int) -> list[Figure]:
    """The same for SDXL at full width and one transformer layer a level, on latents of 32 x 32."""
    files.write("sdxl")
    run(files.build_command("sdxl"))
    return _parity(
        files, threads, "SDXL, reduced depth, step", {"fp32": files.sdxl, "bf16": files.sdxl}, "sdxl", 32
    )


def _parity(
    files: Files, threads: int, what: str, packs: Mapping[str, Path], kind: Any = "sd15", side: int = 64
) -> list[Figure]:
    import torch
    from hoirt.packs import open_pack

    from bench.full.work import HoirtStep, relative, step_inputs, torch_step

    torch.set_num_threads(threads)
    inputs = step_inputs(open_pack(next(iter(packs.values()))), side)
    modules = files.modules(kind)
    expected = torch_step(modules, inputs, "fp32")()
    for name in ("unet", "controlnet"):
        modules[name].to(torch.bfloat16)
    figures = [
        Figure(
            f"{what}, diffusers bf16 from diffusers fp32",
            relative(torch_step(modules, inputs, "bf16")(), expected),
        )
    ]
    modules.clear()
    for precision, pack in packs.items():
        if pack.is_dir():
            arithmetic = "bf16" if precision == "int8" else precision
            found = HoirtStep(open_pack(pack), arithmetic, threads).call(inputs)()
            name = f"{what}, hoirt {precision} from diffusers fp32"
            figures.append(Figure(name, relative(found, expected), bound=ERRORS[precision]))
    return figures


def step(files: Files, threads: int, rounds: int) -> list[Figure]:
    """Seconds of one guided step: ControlNet and UNet, batch 2, 512 x 512, in turns."""
    import torch
    from hoirt.packs import open_pack

    from bench.full.work import HoirtStep, step_inputs, torch_step

    torch.set_num_threads(threads)
    inputs = step_inputs(open_pack(files.pack))
    cases: dict[str, Callable[[], Any]] = {}
    for name, pack in (("hoirt bf16", files.pack), ("hoirt int8", files.int8)):
        if pack.is_dir():
            cases[name] = HoirtStep(open_pack(pack), "bf16", threads).call(inputs)
    exact, short = _networks(files, torch.float32), _networks(files, torch.bfloat16)
    cases["diffusers fp32"] = torch_step(exact, inputs, "fp32")
    cases["diffusers bf16"] = torch_step(short, inputs, "bf16")
    taken = in_turns(cases, rounds)
    return _ratios("step", taken)


def _networks(files: Files, kind: Any) -> dict[str, Any]:
    modules = files.modules()
    return {name: modules[name].to(kind) for name in ("unet", "controlnet")}


def _ratios(what: str, taken: Mapping[str, Seconds], scale: float = 1.0) -> list[Figure]:
    """Ratios with their bounds (times `scale`), then all medians."""
    bounds = {
        ("diffusers fp32", "hoirt bf16"): FP32,
        ("diffusers bf16", "hoirt bf16"): BF16,
        ("diffusers fp32", "hoirt int8"): INT8,
    }
    figures = [
        Figure(
            f"{what}, {theirs} / {ours}",
            taken[theirs].median / taken[ours].median,
            "x",
            bound * scale,
            "at least",
        )
        for (theirs, ours), bound in bounds.items()
        if theirs in taken and ours in taken
    ]
    return figures + [Figure(f"{what}, {name}", one.median, "s") for name, one in taken.items()]


def whole(files: Files, threads: int, _rounds: int) -> list[Figure]:
    """A whole picture of 512 x 512: text, VAE encoder, 20 guided steps, VAE decoder; one run each."""
    taken = {}
    for name in ("hoirt bf16", "hoirt int8", "diffusers fp32", "diffusers bf16"):
        if name == "hoirt int8" and not files.int8.is_dir():
            continue
        taken[name] = Seconds((_in_fresh_process("whole", name, files, threads)["seconds"],))
    return _ratios("refine, 20 steps", taken)


def load(files: Files, threads: int, rounds: int) -> list[Figure]:
    """Opening from a warm cache, in fresh processes; the first fills the cache."""
    runs = [_in_fresh_process("load", "hoirt bf16", files, threads) for _ in range(rounds + 1)][1:]
    opening = statistics.median(one["open"] for one in runs)
    ready = statistics.median(one["open"] + one["first"] - one["second"] for one in runs)
    return [
        Figure("Refiner() from a warm cache", opening, "s", 5.0),
        Figure("Refiner() and every network of a first picture from a warm cache", ready, "s", 5.0),
    ]


def memory(files: Files, threads: int, _rounds: int) -> list[Figure]:
    """High-water marks of fresh processes that open everything and make a picture in two steps."""
    sides = ("hoirt bf16", "diffusers fp32", "diffusers bf16")
    peaks = {name: _in_fresh_process("memory", name, files, threads) for name in sides}
    figures = [Figure(f"peak memory, {name}", one["peak"], "MiB") for name, one in peaks.items()]
    own = peaks["hoirt bf16"]["own"]
    note = "not the pages of files, which the system may drop"
    figures.insert(1, Figure("memory of its own, hoirt bf16, at the end", own, "MiB", note=note))
    bound = peaks["diffusers fp32"]["peak"]
    return [Figure("memory of its own, hoirt bf16 / peak, diffusers fp32", own / bound, "x", 1.0), *figures]


def inpaint(files: Files, threads: int, _rounds: int) -> list[Figure]:
    """Inpainting without ControlNet beside OpenVINO GenAI's InpaintingPipeline, each in a fresh process."""
    from bench.full import genai

    genai.convert(files)
    taken = {
        name: Seconds((_in_fresh_process("inpaint", name, files, threads)["seconds"],))
        for name in ("hoirt", "GenAI")
    }
    ratio = taken["GenAI"].median / taken["hoirt"].median
    return [
        Figure("inpainting without ControlNet, GenAI / hoirt", ratio, "x", 1.0, "at least"),
        *(Figure(f"inpainting without ControlNet, {name}", one.median, "s") for name, one in taken.items()),
    ]


PARTS: Mapping[str, Part] = {
    part.__name__: part for part in (build, quantize, parity, step, whole, load, memory, inpaint, sdxl)
}


# What runs in fresh processes


def _in_fresh_process(what: str, side: str, files: Files, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.full.parts", what, side, str(files.folder), str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _maker(side: str, files: Files, threads: int) -> tuple[float, Callable[[int], Any]]:
    """Seconds to open a side, and what makes a picture with it in a number of steps."""
    from hoirt.packs import open_pack

    from bench.full import work

    start = time.perf_counter()
    name, precision = side.split()
    if name == "hoirt":
        import hoirt

        refiner = hoirt.Refiner(files.int8 if precision == "int8" else files.pack, threads=threads)
        return time.perf_counter() - start, functools.partial(work.refine, refiner)
    import torch

    torch.set_num_threads(threads)
    pipeline, settings = files.pipeline(precision), open_pack(files.pack).settings
    make = functools.partial(
        work.run_pipeline, pipeline, guidance=settings.guidance, negative=settings.negative_prompt
    )
    return time.perf_counter() - start, make


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _whole(side: str, files: Files, threads: int) -> dict[str, float]:
    _, make = _maker(side, files, threads)
    make(2)  # compiles, touches every weight
    return {"seconds": _seconds(lambda: make(20))}


def _load(side: str, files: Files, threads: int) -> dict[str, float]:
    opening, make = _maker(side, files, threads)
    return {"open": opening, "first": _seconds(lambda: make(2)), "second": _seconds(lambda: make(2))}


def _memory(side: str, files: Files, threads: int) -> dict[str, float]:
    _, make = _maker(side, files, threads)
    make(2)
    lines = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))
    return {"peak": peak_of("self"), "own": own}


def _inpaint(side: str, files: Files, threads: int) -> dict[str, float]:
    from bench.full import genai

    make = (genai.hoirt_maker if side == "hoirt" else genai.genai_maker)(files, threads)
    make(2)
    return {"seconds": _seconds(lambda: make(20))}


if __name__ == "__main__":
    part, side, folder, threads = sys.argv[1:]
    run_part = {"whole": _whole, "load": _load, "memory": _memory, "inpaint": _inpaint}[part]
    print(json.dumps(run_part(side, Files(Path(folder)), int(threads))))
