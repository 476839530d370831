"""Which pictures a command line means, and where their results go."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from hoirt.errors import InputError


class UsageError(InputError):
    """The command line asks for something that cannot be done; nothing was started."""


def pictures(arguments: Sequence[str]) -> list[Path]:
    """Files named, the picture files of folders named, and the matches of globs; sorted per argument, no
    doubles.

    A file that does not exist is kept, so that it is reported with the others. A glob without a match and a
    folder without pictures are usage errors.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if entry.is_file() and _is_picture(entry))
            if not inside:
                raise UsageError(f"the folder {path} holds no pictures")
            found += inside
        elif not path.exists() and any(mark in argument for mark in "*?["):
            matches = sorted(Path(match) for match in glob.glob(argument, recursive=True))  # noqa: PTH207
            files = [match for match in matches if match.is_file()]
            if not files:
                raise UsageError(f"no file matches {argument}")
            found += files
        else:
            found.append(path)
    distinct: dict[Path, Path] = {}
    for path in found:
        distinct.setdefault(path.resolve(), path)
    return list(distinct.values())


def targets(inputs: Sequence[Path], out: Path) -> list[Path]:
    """A result path for each input. `out` is a folder, or for one input a file name with a picture's suffix.

    Results keep the names of their inputs; doubles get a number; a format that cannot be written becomes
    .png. Raises UsageError if a result would take the place of an input.
    """
    if len(inputs) == 1 and not out.is_dir() and is_writable(out):
        chosen = [out]
    else:
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file; for several pictures OUT must be a folder")
        chosen = []
        for path in inputs:
            name = path.name if is_writable(path) else f"{path.stem}.png"
            chosen.append(_unused(out / name, chosen))
    originals = {path.resolve() for path in inputs}
    for target in chosen:
        if target.resolve() in originals:
            raise UsageError(
                f"{target} is one of the inputs, which are never overwritten; choose another OUT"
            )
    return chosen


def _unused(target: Path, taken: Sequence[Path]) -> Path:
    number, candidate = 2, target
    while candidate in taken:
        candidate = target.with_stem(f"{target.stem}_{number}")
        number += 1
    return candidate


def _is_picture(path: Path) -> bool:
    from PIL import Image

    return path.suffix.lower() in Image.registered_extensions()


def is_writable(path: Path) -> bool:
    """Whether the suffix of `path` is that of a picture format that can be written."""
    from PIL import Image

    return Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE


def is_animated(path: Path) -> bool:
    """Whether a picture that was read has more frames than the first; a photograph's previews are none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # of a damaged second frame, or a file that is gone by now; the first one was read
        return False
