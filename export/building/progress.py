"""How a build goes on, on stderr: bytes of all, with an estimate of the time left, and a line per network."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from ..handrefiner import Watch
from .plan import Size

CHUNK = 16 << 20


class Progress(Watch):
    """A context manager; `sizes`: what will be written, by role."""

    def __init__(self, sizes: Mapping[str, Size], quiet: bool = False) -> None:
        self._sizes = sizes
        self._bar = tqdm(
            total=sum(size.bytes for size in sizes.values()),
            unit="B",
            unit_scale=True,
            disable=quiet,
            leave=False,
        )
        self._quiet = quiet
        self._role, self._since = "", 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._line()
        self._bar.close()

    def network(self, role: str, reused: bool) -> None:
        self._line()
        size = self._sizes.get(role, Size(0, 0)).bytes
        if reused:
            self._say(f"{role}: kept from before, {size / 1e6:.1f} MB")
            self._bar.update(size)
            return
        self._bar.set_description(role)
        self._role, self._since = role, time.monotonic()

    def written(self, count: int) -> None:
        self._bar.update(count)

    def verifying(self) -> None:
        self._line()
        self._bar.set_description("verifying")

    def _line(self) -> None:
        """Closes the network that was being written."""
        if self._role:
            size = self._sizes.get(self._role, Size(0, 0)).bytes
            self._say(f"{self._role}: {size / 1e6:.1f} MB in {time.monotonic() - self._since:.0f} s")
        self._role = ""

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._bar.write(text, file=self._bar.fp)


def hash_files(files: Mapping[str, tuple[Path, ...]], quiet: bool = False) -> dict[Path, str]:
    """The sha256 of every file; a file that serves two components is read once."""
    distinct = dict.fromkeys(file for group in files.values() for file in group)
    total = sum(file.stat().st_size for file in distinct)
    hashes = {}
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="reading sources", disable=quiet, leave=False
    ) as bar:
        for path in distinct:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while part := file.read(CHUNK):
                    digest.update(part)
                    bar.update(len(part))
            hashes[path] = digest.hexdigest()
    return hashes
