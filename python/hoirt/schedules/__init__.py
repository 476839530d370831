"""Step tables from diffusers scheduler configs: `build(config, steps)` gives a `StepTable`."""

from hoirt.schedules.build import build, names
from hoirt.schedules.table import StepTable

__all__ = ["StepTable", "build", "names"]
