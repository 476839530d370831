"""The step table of a call: the pack's scheduler, another one by name, or the caller's own config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hoirt.errors import InputError
from hoirt.pipeline.options import Settings

if TYPE_CHECKING:
    from hoirt.schedules import StepTable

# What the model was trained with; the rest of a config belongs to one sampler and does not carry over.
_OF_THE_MODEL = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)


def step_table(trained: Mapping[str, Any], settings: Settings) -> StepTable:
    """The table of `settings.steps` rows that blends the known region at every step but the last.

    Args:
        trained: the pack's scheduler config.
        settings: `scheduler` is None for the pack's own; a class name such as "EulerDiscreteScheduler", or
            its start, "Euler"; or a config, whose missing training options are filled from the pack's.
    """
    from hoirt.schedules import build
    from hoirt.schedules.build import FAMILIES

    config = dict(trained)
    if settings.scheduler is not None:
        chosen = (
            {"_class_name": settings.scheduler} if isinstance(settings.scheduler, str) else settings.scheduler
        )
        name = _full_name(chosen.get("_class_name", trained["_class_name"]), tuple(FAMILIES))
        known = FAMILIES[name].options.__dataclass_fields__
        kept = {key: trained[key] for key in _OF_THE_MODEL if key in trained and key in known}
        config = kept | dict(chosen) | {"_class_name": name}
    return build(config, settings.steps, guidance=settings.guidance, known_region=True)


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
