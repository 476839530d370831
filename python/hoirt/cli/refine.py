"""`hoirt refine IN... -o OUT`: repairs the hands of picture files."""

from __future__ import annotations

import argparse
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoirt.cli import runtime
from hoirt.cli.files import UsageError, is_animated, is_writable, pictures, targets
from hoirt.errors import Cancelled, HoirtError

if TYPE_CHECKING:
    from hoirt._core import CancelToken
    from hoirt.pipeline.refiner import Refiner
    from hoirt.pipeline.result import Result as PictureResult
    from hoirt.pipeline.result import StepInfo
    from hoirt.report import Sheet


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to `hoirt`."""
    parser = commands.add_parser("refine", help="repair the hands of pictures")
    parser.add_argument(
        "inputs", nargs="+", metavar="IN", help="picture files, folders of pictures, or globs"
    )
    parser.add_argument("-o", "--out", required=True, type=Path, help="a folder, or for one picture a file")
    parser.add_argument(
        "--report", type=Path, metavar="SHEET", help="also write a before/after sheet (.png, .jpg)"
    )
    parser.add_argument("--prompt", default="", help="what the pictures show")
    parser.add_argument("--negative-prompt", help="what they shall not show")
    parser.add_argument("--seed", type=_integer(0, 2**64 - 1), default=0, help="seed of the noise (0)")
    _add_hands(parser.add_argument_group("which hands"))
    _add_sampling(parser.add_argument_group("how they are drawn"))
    runtime.add_options(parser)
    parser.add_argument("--jobs", type=_integer(1, 64), default=1, help="pictures in work at once (1)")
    parser.set_defaults(run=run)


def _add_hands(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--hands", choices=("all", "malformed"), default="all", help="of the hands that are found (all)"
    )
    group.add_argument(
        "--box",
        type=_box,
        action="append",
        metavar="X0,Y0,X1,Y1",
        help="where a hand is, in pixels, instead of looking for it; may be repeated; for a single picture",
    )
    group.add_argument("--mask", type=Path, help="a picture, white = regenerate; needs a single picture")
    group.add_argument("--depth", type=Path, help="a depth map, near = white; needs a single picture")


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--strength", type=_strength, default=0.55, help='depth control, 0..1.5 or "adaptive" (0.55)'
    )
    group.add_argument("--steps", type=_integer(1, 1000), help="denoising steps, 1..1000")
    group.add_argument("--guidance", type=_number(0, 100), help="classifier-free guidance scale, 0..100")
    group.add_argument("--scheduler", help="a diffusers scheduler class, or its start, such as DPMSolver")
    group.add_argument(
        "--region", choices=("crop", "frame"), help="each hand (default), or the whole picture"
    )
    group.add_argument("--faithful", action="store_true", help="the released algorithm step by step")
    group.add_argument(
        "--preview", type=_number(0.05, 0.95), help="adaptive: judge at this fraction of the steps"
    )
    group.add_argument(
        "--guidance-interval",
        type=_number(0, 1),
        nargs=2,
        metavar=("START", "END"),
        help="guidance only between these fractions of the steps",
    )
    group.add_argument("--reuse", choices=("control", "deep"), help="features that are kept between steps")
    group.add_argument(
        "--reuse-every", type=_integer(1, 1000), default=2, help="a full step every so many (2)"
    )
    group.add_argument("--no-colour-match", action="store_true", help="leave the decoder's shift of colours")


def run(options: argparse.Namespace) -> int:
    """Returns 0 if all pictures were done, 1 if some failed, 2 for wrong usage, 130 if interrupted."""
    try:
        inputs = pictures(options.inputs)
        outputs = targets(inputs, options.out)
        if options.report is not None:
            _check_report(options.report, inputs + outputs)
        for name in ("box", "mask", "depth"):
            if getattr(options, name) is not None and len(inputs) != 1:
                raise UsageError(f"--{name} is for one picture, and there are {len(inputs)}")
    except UsageError as error:
        print(f"hoirt refine: {error}", file=sys.stderr)
        return 2
    from hoirt import CancelToken
    from hoirt.imaging import save
    from hoirt.report import Sheet

    refiner = runtime.open_refiner(options)
    for folder in {path.parent for path in outputs}:
        folder.mkdir(parents=True, exist_ok=True)
    sheet = Sheet() if options.report is not None else None
    batch = _Batch(refiner, options, CancelToken(), len(inputs), sheet)
    interrupted = batch.run(list(zip(inputs, outputs, strict=True)))
    if sheet:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        print(f"sheet: {save(sheet.image(), options.report)}")
    return 130 if interrupted else 1 if batch.failed else 0


def _check_report(report: Path, others: list[Path]) -> None:
    """Raises UsageError unless the sheet has a picture's suffix and a name of its own."""
    if report.is_dir() or not is_writable(report):
        raise UsageError(f"--report {report} must name a picture file, such as sheet.png")
    if report.resolve() in {path.resolve() for path in others}:
        raise UsageError(f"--report {report} is also an input or a result")


@dataclass
class _Batch:
    """Pictures on their way through a pool of threads.

    The main thread only waits: Ctrl-C is raised there, so it cannot break what a worker writes or prints.
    """

    refiner: Refiner
    options: argparse.Namespace
    token: CancelToken
    count: int
    sheet: Sheet | None
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, work: list[tuple[Path, Path]]) -> bool:
        """Refines all; True if Ctrl-C ended it early. What is written is whole."""
        from tqdm import tqdm  # type: ignore[import-untyped]

        with (
            tqdm(
                total=1000 * self.count, disable=not sys.stderr.isatty(), bar_format=_BAR, leave=False
            ) as bar,
            ThreadPoolExecutor(self.options.jobs) as pool,
        ):
            futures = [pool.submit(self._one, source, target, bar) for source, target in work]
            try:
                for future in as_completed(futures):
                    future.result()
            except KeyboardInterrupt:
                self.token.cancel()
                pool.shutdown(cancel_futures=True)
                print("hoirt: interrupted; the results written so far are complete", file=sys.stderr)
                return True
        return False

    def _one(self, source: Path, target: Path, bar: Any) -> None:
        """Refines one picture, tells about it in one line, and adds it to the sheet."""
        from hoirt import Result
        from hoirt.imaging import save

        try:
            result = self._refine(source, bar)
            save(result.image, target)
            only = "; its first frame, of several" if is_animated(source) else ""
        except Cancelled:
            return
        except (HoirtError, OSError) as error:
            result = Result(None, "error", error=error)
        with self._lock:
            if result.error is None:
                bar.write(f"{source} -> {target}: {result.summary()}{only}", file=sys.stdout)
                sys.stdout.flush()  # whoever reads a pipe sees each picture at once
            else:
                self.failed += 1
                if self.options.debug:
                    traceback.print_exception(result.error)
                bar.write(f"hoirt: {source}: {str(result.error).removeprefix(f'{source} ')}", file=sys.stderr)
            if self.sheet is not None:
                self.sheet.add(source.name, source, result)

    def _refine(self, source: Path, bar: Any) -> PictureResult:
        done = 0
        runs = _MOST_RUNS if self.options.strength == "adaptive" else 1

        def advance(share: int) -> None:
            nonlocal done
            with self._lock:
                bar.update(share - done)
                done = share

        def on_step(info: StepInfo) -> None:
            advance(int(1000 * (info.run + (info.step + 1) / (info.steps + 1)) / runs))

        try:
            return self.refiner(
                source,
                prompt=self.options.prompt,
                negative_prompt=self.options.negative_prompt,
                hands=self.options.box or (None if self.options.hands == "all" else self.options.hands),
                mask=self.options.mask,
                depth=self.options.depth,
                strength=self.options.strength,
                steps=self.options.steps,
                guidance=self.options.guidance,
                scheduler=self.options.scheduler,
                seed=self.options.seed,
                region=self.options.region,
                faithful=self.options.faithful,
                preview=self.options.preview,
                guidance_interval=self.options.guidance_interval,
                reuse=self.options.reuse,
                reuse_every=self.options.reuse_every,
                colour_match=not self.options.no_colour_match,
                on_step=on_step,
                cancel=self.token,
            )
        finally:
            advance(1000)


_MOST_RUNS = 8  # of the adaptive procedure: seven strengths, and the chosen one again after previews
_BAR = "{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"


def _number(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return number


def _integer(low: int, high: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    return integer


def _strength(text: str) -> float | str:
    return text if text == "adaptive" else _number(0, 1.5)(text)


def _box(text: str) -> tuple[float, ...]:
    corners = tuple(float(part) for part in text.split(","))  # a ValueError is a usage error
    if len(corners) != 4:
        raise argparse.ArgumentTypeError(f"{text} is not X0,Y0,X1,Y1")
    return corners
