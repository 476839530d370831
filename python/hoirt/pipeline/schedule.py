"""The step table of a call: the pack's scheduler, another one by name, or the caller's own config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoirt.errors import InputError
from hoirt.pipeline.options import Settings
from hoirt.schedules import StepTable, build
from hoirt.schedules.build import FAMILIES
from hoirt.schedules.released import OF_THE_MODEL, released


def step_table(trained: Mapping[str, Any], settings: Settings, *, guided: bool = True) -> StepTable:
    """The table of `settings.steps` rows that blends the known region at every step but the last.

    Args:
        trained: the pack's scheduler config.
        guided: False runs no unconditional pass at any step.
        settings: `scheduler` is None for the pack's own; a class name such as "EulerDiscreteScheduler", or
            its start, "Euler"; or a config, whose missing training options are filled from the pack's.
    """
    guidance = settings.guidance if guided else 1.0
    if settings.faithful:
        return released(trained, settings.steps, guidance)
    config = dict(trained)
    if settings.scheduler is not None:
        chosen = (
            {"_class_name": settings.scheduler} if isinstance(settings.scheduler, str) else settings.scheduler
        )
        name = _full_name(chosen.get("_class_name", trained["_class_name"]), tuple(FAMILIES))
        known = FAMILIES[name].options.__dataclass_fields__
        kept = {key: trained[key] for key in OF_THE_MODEL if key in trained and key in known}
        config = kept | dict(chosen) | {"_class_name": name}
    more: dict[str, Any] = {}
    if settings.guidance_interval is not None:
        more["guidance_interval"] = settings.guidance_interval
    if settings.reuse is not None:
        more["reuse_every"] = settings.reuse_every
    return build(config, settings.steps, guidance=guidance, known_region=True, **more)


def _full_name(name: Any, names: tuple[str, ...]) -> str:
    fits = [full for full in names if full == name] or [
        full for full in names if isinstance(name, str) and name and full.lower().startswith(name.lower())
    ]
    if len(fits) != 1:
        listed = ", ".join(fits or names)
        raise InputError(
            f"scheduler {name!r} {'could be any of' if fits else 'is unknown; there are'} {listed}"
        )
    return fits[0]
