"""The refining pipeline: find hands, render their depth, regenerate, paste back."""

from hoirt.pipeline.refiner import Refiner
from hoirt.pipeline.result import Result, StepInfo
from hoirt.pipeline.shared import detect, refine
from hoirt.pipeline.timings import Timings

__all__ = ["Refiner", "Result", "StepInfo", "Timings", "detect", "refine"]
