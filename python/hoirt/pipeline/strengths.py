"""A prepared picture to its result, at the strength asked for or at the one that fits it best."""

from __future__ import annotations

import math
from contextlib import suppress

from hoirt.errors import InputError, OutOfMemory
from hoirt.pipeline.adaptive import REFERENCE, STRENGTHS, choose, joint_error
from hoirt.pipeline.models import Models
from hoirt.pipeline.options import Settings
from hoirt.pipeline.result import Result
from hoirt.pipeline.run import Job, Painted, at_strengths, regenerate, result


def finish(models: Models, job: Job, settings: Settings) -> Result:
    """One picture by itself."""
    job.check_cancel()
    if not job.regions:
        return result(models, job, None, 0.0 if job.strength == "adaptive" else job.strength)
    if job.strength == "adaptive":
        return _adaptive(models, job, settings)
    return result(models, job, regenerate(models, [job], settings)[0], job.strength)


def _adaptive(models: Models, job: Job, settings: Settings) -> Result:
    if not job.hands:
        raise InputError(
            'strength="adaptive" compares the new hands with the meshes they were made from: it needs hands '
            "that are found or told, depth= alone is not enough"
        )
    rows = None if settings.preview is None else math.ceil(settings.preview * len(job.table))
    painted: dict[float, Painted] = {}
    if models.parallel_strengths:
        every = (REFERENCE, *STRENGTHS)
        # Where the device or its compiled network has no room for so many, they run in order below.
        with suppress(OutOfMemory, InputError):
            together = at_strengths(models, job, every, settings, run=0, rows=rows)
            painted = dict(zip(every, together, strict=True))
    errors = 0

    def error_at(strength: float) -> float:
        nonlocal errors
        if strength not in painted:
            job.check_cancel()
            painted[strength] = at_strengths(models, job, [strength], settings, run=errors, rows=rows)[0]
        errors += 1
        with job.watch("mesh"):
            seen = models.find.again(painted[strength].pixels, job.hands, released=settings.faithful)
        return joint_error(job.hands, seen)

    chosen, trials = choose(error_at)
    final = painted[chosen.strength]
    if rows is not None and rows < len(job.table):
        final = at_strengths(models, job, [chosen.strength], settings, run=errors)[0]
    return result(models, job, final, chosen.strength, trials)
