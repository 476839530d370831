"""What do fewer operations cost? Samplers, steps, guidance intervals and feature reuse on held-out hands.

    python -m bench.fewer_flops [--count 40] [--pack handrefiner-tiny] [--out bench/results/fewer_flops.json]

For every way: how many hands a judge still calls malformed, how closely they follow the mesh, the time of the
denoising stage, and the operations in it; beside them the operations of Stable Diffusion 1.5 with its
ControlNet at 512 x 512 in as many steps. Drawn into docs/images/quality_time.png.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import hoirt
import torch
from hoirt import schedules
from hoirt.packs import Pack, open_pack
from tqdm import tqdm

from bench import flops
from bench.curve import DEFAULT_STRENGTH, followed
from bench.held_out import FIRST, Example, Image, example, repair
from bench.judges import network
from bench.judges.network import Judge
from bench.measures import flagged, judged, mean
from bench.quality_time import Dot, draw
from bench.record import RESULTS, document, finite, write_json
from bench.report import markdown

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SAMPLERS = {
    "DDIM": {
        "_class_name": "DDIMScheduler",
        "timestep_spacing": "trailing",
        "set_alpha_to_one": False,
        "clip_sample": False,
    },
    "DPM++ 2M": None,  # the pack's own
}
STEPS = (5, 10, 20, 50)
INTERVALS = ((0.0, 1.0), (0.2, 0.8))
REUSE = ((None, 1), ("control", 2), ("deep", 2), ("deep", 3))
# The inputs of Stable Diffusion 1.5 at 512 x 512: latents and tokens.
SD15_SIDE, SD15_TOKENS = 64, 77


@dataclass(frozen=True)
class Way:
    """One way to denoise: arguments of `Refiner`."""

    sampler: str
    steps: int
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    reuse: str | None = None
    reuse_every: int = 1

    @property
    def arguments(self) -> dict[str, Any]:
        reuse = {} if self.reuse is None else {"reuse": self.reuse, "reuse_every": self.reuse_every}
        return {
            "scheduler": SAMPLERS[self.sampler],
            "steps": self.steps,
            "guidance_interval": self.guidance_interval,
            **reuse,
        }

    @property
    def family(self) -> str:
        """The way without its numbers of steps."""
        low, high = self.guidance_interval
        guided = "" if (low, high) == (0.0, 1.0) else f", guided {low:g} to {high:g}"
        return f"{self.sampler}{guided}" + ("" if self.reuse is None else f", {self.reuse}")

    @property
    def name(self) -> str:
        every = "" if self.reuse is None else f" of every {self.reuse_every}"
        return f"{self.steps} steps {self.family}{every}"


@dataclass(frozen=True)
class Outcome:
    """What a way gave: shares and pixels of the judge, median seconds, operations of one hand."""

    way: Way
    flagged: float
    joint_error: float
    seconds: float
    operations: int
    operations_sd15: int

    @property
    def dot(self) -> Dot:
        way = self.way
        text = f"{way.steps}" if way.reuse is None else f"{way.steps}/{way.reuse_every}"
        return Dot(way.family, text, self.seconds, self.joint_error, self.flagged)


@dataclass(frozen=True)
class Costs:
    """Operations of one item in one step: in full, and by kind of reuse."""

    full: int
    reuse: dict[str, int]

    def of(self, way: Way, guidance: float) -> int:
        """Of a whole run."""
        rows = schedules.build(
            # Which rows are guided and which reuse does not depend on the sampler.
            {"_class_name": "DDIMScheduler", "clip_sample": False},
            way.steps,
            guidance=guidance,
            guidance_interval=way.guidance_interval,
            reuse_every=way.reuse_every,
        )
        shallow = self.reuse[way.reuse] if way.reuse else 0
        return flops.of_run(self.full, shallow, (rows.guidance != 1).tolist(), rows.reuse.tolist())


def costs_of_pack(pack: Pack) -> Costs:
    """Counted in the ONNX graphs, for one crop."""
    side = pack.settings.crop // pack.settings.vae.factor

    known: dict[str, tuple[int, ...]] = {
        name: (1, *(side if extent == -1 else extent for extent in port.shape[1:]))
        for name, port in pack.manifest.networks["step"].inputs.items()
    }
    full = flops.count(pack.network_file("step"), known)
    kinds = sorted({kind for kind, _ in REUSE if kind and pack.has(f"step_reuse_{kind}")})
    if kinds:
        known |= flops.output_shapes(pack.network_file("step_keep"), known)
    return Costs(full, {kind: flops.count(pack.network_file(f"step_reuse_{kind}"), known) for kind in kinds})


def costs_of_sd15() -> Costs:
    """Counted by torch on modules without memory, from the configs alone: diffusers' defaults."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    from export.feature_reuse import StepKeep, StepReuseControl, StepReuseDeep, feature_names
    from export.loop_invariants import Invariants

    with torch.device("meta"):
        unet = UNet2DConditionModel(in_channels=9, cross_attention_dim=768)
        controlnet = ControlNetModel(cross_attention_dim=768)
        invariants = Invariants.of({"unet": unet, "controlnet": controlnet})
        columns = [
            sum(layer.out_features for layer in part.values())
            for part in (invariants.time, invariants.context)
        ]
        latents, width = (1, 4, SD15_SIDE, SD15_SIDE), unet.config.block_out_channels[0]
        given = {
            "sample": torch.empty(latents),
            "time": torch.empty(1, columns[0]),
            "context": torch.empty(1, SD15_TOKENS, columns[1]),
            "hint": torch.empty(1, width, SD15_SIDE, SD15_SIDE),
            "inpaint": torch.empty(1, 5, SD15_SIDE, SD15_SIDE),
            "control_scale": torch.empty(1),
        }

    full, (_, *features) = flops.counted_by_torch(StepKeep(unet, controlnet), *given.values())
    known = given | dict(zip(feature_names(unet), features, strict=True))
    reuse = {}
    for kind, make in (("control", StepReuseControl), ("deep", StepReuseDeep)):
        module = make(unet, controlnet)
        reuse[kind], _ = flops.counted_by_torch(module, *(known[name] for name in module.names))
    return Costs(full, reuse)


class Timed:
    """A refiner with the arguments of one way; remembers the seconds of the denoising stage.

    The prompt is set for each picture: without one, guidance would have nothing to do.
    """

    def __init__(self, refiner: hoirt.Refiner, way: Way) -> None:
        self._refiner, self._arguments = refiner, way.arguments
        self.seconds: list[float] = []
        self.prompt = ""

    def __call__(self, image: Image, *, strength: float, seed: int) -> hoirt.Result:
        result = self._refiner(image, prompt=self.prompt, strength=strength, seed=seed, **self._arguments)
        if result.timings.denoise > 0:  # a picture in which no hand is found has no such stage
            self.seconds.append(result.timings.denoise)
        return result


def measure(
    refiner: hoirt.Refiner, judge: Judge, pack: Pack, examples: Sequence[Example], ways: Sequence[Way]
) -> list[Outcome]:
    """Each way on the malformed pictures of all examples."""
    costs, full_size = costs_of_pack(pack), costs_of_sd15()
    guidance = pack.settings.guidance
    outcomes = []
    for way in tqdm(ways, unit="way"):
        timed = Timed(refiner, way)
        timed(examples[0].picture.malformed, strength=DEFAULT_STRENGTH, seed=0)  # compiles
        timed.seconds.clear()
        repairs = []
        for one in examples:
            timed.prompt = one.picture.hands[0].caption
            repairs.append(repair(timed, one, one.picture.malformed, DEFAULT_STRENGTH))
        seen = judged(judge, [made.crop for made in repairs])
        outcomes.append(
            Outcome(
                way,
                flagged(seen.logits),
                mean(followed(repairs, seen)),
                statistics.median(timed.seconds) if timed.seconds else float("nan"),
                costs.of(way, guidance),
                full_size.of(way, guidance),
            )
        )
    return outcomes


def all_ways(pack: Pack, steps: Sequence[int] = STEPS) -> list[Way]:
    """Every combination that the pack has the networks for."""
    return [
        Way(sampler, count, interval, kind, every)
        for sampler, count, interval, (kind, every) in product(SAMPLERS, steps, INTERVALS, REUSE)
        if kind is None or pack.has(f"step_reuse_{kind}")
    ]


def table_of(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A header and a row for every way, the pack's own sampler at 20 steps among them."""
    header = [
        "way",
        "flagged / %",
        "joint error / px",
        "denoising, median / ms",
        "operations, SD 1.5 / TFLOP",
    ]
    rows = [
        [
            one.way.name,
            f"{100 * one.flagged:.1f}",
            f"{one.joint_error:.3f}",
            f"{1000 * one.seconds:.0f}",
            f"{one.operations_sd15 / 1e12:.1f}",
        ]
        for one in outcomes
    ]
    return [header, *rows]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=40, help="pictures")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--pack", default="handrefiner-tiny", help="name or folder")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of a network; all cores if not given"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "fewer_flops.json")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the drawing")
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error("at least one picture is needed")
    if args.threads:
        torch.set_num_threads(args.threads)
    pack = open_pack(args.pack)
    examples = [example(seed) for seed in range(FIRST, FIRST + args.count)]
    outcomes = measure(
        hoirt.Refiner(args.pack, threads=args.threads),
        network.load(),
        pack,
        examples,
        all_ways(pack, args.steps),
    )
    shown = table_of(outcomes)
    ways = [
        asdict(replace(one, joint_error=0.0, seconds=0.0))
        | {"name": one.way.name, "joint_error": finite(one.joint_error), "seconds": finite(one.seconds)}
        for one in outcomes
    ]
    details = {"pack": args.pack, "count": args.count, "table": shown, "ways": ways}
    write_json(args.out, document("fewer_flops", [], args.threads, **details))
    print(markdown(shown))
    draw([one.dot for one in outcomes], args.images / "quality_time.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
