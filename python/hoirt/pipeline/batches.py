"""Lists of pictures: several through one run of the loop, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from hoirt.errors import Cancelled, HoirtError
from hoirt.memory import let_go, with_memory
from hoirt.pipeline.models import Models
from hoirt.pipeline.options import Item, Settings
from hoirt.pipeline.result import Result
from hoirt.pipeline.run import Job, prepare, regenerate, result
from hoirt.pipeline.strengths import finish


def refine_one(models: Models, item: Item, settings: Settings) -> Result:
    """One checked picture; whatever is wrong is raised."""
    device = models.arrays.device
    job = with_memory(device, partial(prepare, models, item, settings))
    return with_memory(device, partial(finish, models, job, settings))


def refine_all(
    models: Models,
    items: Sequence[Item],
    check: Callable[[Item], Item],
    settings: Settings,
    *,
    own_tokens: bool,
) -> list[Result]:
    """A Result per item, in order, `settings.batch` pictures at a time.

    check: gives the item checked, or raises. own_tokens: every item has a cancel token of its own, so a
    cancelled one is a result with that status; otherwise Cancelled is raised for the whole list.
    """
    batches = _Batches(models, check, settings, own_tokens)
    results: list[Result] = []
    for start in range(0, len(items), settings.batch):
        results += batches(items[start : start + settings.batch])
        for done in results[start:]:
            let_go(done.error)  # again, for the functions of _Batches have ended only now
    return results


class _Batches:
    def __init__(
        self, models: Models, check: Callable[[Item], Item], settings: Settings, own_tokens: bool
    ) -> None:
        self._models, self._check, self._settings, self._own_tokens = models, check, settings, own_tokens
        self._device = models.arrays.device

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        results: dict[int, Result] = {}  # by index of the item
        jobs: list[Job] = []
        for item in items:
            with self._guard(item, results):
                job = with_memory(self._device, partial(self._prepare, item))
                if len(items) > 1 and job.encoded is not None and job.strength != "adaptive":
                    jobs.append(job)
                else:
                    results[item.index] = self._finish(job)
        for together in _alike(jobs):
            self._run(together, results)
        return [results[item.index] for item in items]

    def _run(self, jobs: list[Job], results: dict[int, Result]) -> None:
        """All in one run of the loop; if that fails, each by itself, so that each gets its own result."""
        if len(jobs) > 1:
            try:
                painted = with_memory(self._device, partial(regenerate, self._models, jobs, self._settings))
            except Cancelled:
                if not self._own_tokens or not all(_cancelled(job.item) for job in jobs):
                    raise
            except (HoirtError, MemoryError):  # InputError too: a compiled network may not take so many
                pass
            else:
                for job, one in zip(jobs, painted, strict=True):
                    with self._guard(job.item, results):
                        job.check_cancel()
                        results[job.item.index] = with_memory(
                            self._device, partial(result, self._models, job, one, float(job.strength))
                        )
                return
        for job in jobs:
            with self._guard(job.item, results):
                results[job.item.index] = self._finish(job)

    def _prepare(self, item: Item) -> Job:
        return prepare(self._models, self._check(item), self._settings)

    def _finish(self, job: Job) -> Result:
        return with_memory(self._device, partial(finish, self._models, job, self._settings))

    @contextmanager
    def _guard(self, item: Item, results: dict[int, Result]) -> Iterator[None]:
        """What goes wrong with the item becomes its result."""
        try:
            yield
        except Cancelled as error:
            if not self._own_tokens or not _cancelled(item):
                raise
            let_go(error)
            results[item.index] = Result(None, "cancelled", error=error)
        except HoirtError as error:
            let_go(error)
            results[item.index] = Result(None, "error", error=error)


def _cancelled(item: Item) -> bool:
    return bool(getattr(item.cancel, "cancelled", False))


def _alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups that fit into one run: size of region, table, and noise given or not agree."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        assert job.encoded is not None
        kind = (job.encoded.size, job.table.guided, job.noise is not None)
        groups.setdefault(kind, []).append(job)
    return list(groups.values())
