"""hoirt: a compiled runtime for hand-object interaction models.

    import hoirt
    result = hoirt.refine("photo.jpg", prompt="an open palm")
    result.image.save("repaired.png")

Names are imported when they are first used, so `import hoirt` is quick and needs no runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hoirt._version import __version__
from hoirt.errors import BackendError, Cancelled, HoirtError, InputError, OutOfMemory, PackError

if TYPE_CHECKING:
    from hoirt._core import CancelToken
    from hoirt.diagnosis import doctor
    from hoirt.hands.hand import Camera, Hand
    from hoirt.hands.mano import load_mano
    from hoirt.hands.motion import Motion, load_motion
    from hoirt.pipeline.refiner import Refiner
    from hoirt.pipeline.result import Result, StepInfo
    from hoirt.pipeline.shared import detect, refine
    from hoirt.pipeline.timings import Timings
    from hoirt.report import report_sheet

_LAZY = {
    "Camera": "hoirt.hands.hand",
    "CancelToken": "hoirt._core",
    "Hand": "hoirt.hands.hand",
    "Motion": "hoirt.hands.motion",
    "Refiner": "hoirt.pipeline.refiner",
    "Result": "hoirt.pipeline.result",
    "StepInfo": "hoirt.pipeline.result",
    "Timings": "hoirt.pipeline.timings",
    "detect": "hoirt.pipeline.shared",
    "doctor": "hoirt.diagnosis",
    "load_mano": "hoirt.hands.mano",
    "load_motion": "hoirt.hands.motion",
    "refine": "hoirt.pipeline.shared",
    "report_sheet": "hoirt.report",
}

__all__ = [
    "BackendError",
    "Camera",
    "CancelToken",
    "Cancelled",
    "Hand",
    "HoirtError",
    "InputError",
    "Motion",
    "OutOfMemory",
    "PackError",
    "Refiner",
    "Result",
    "StepInfo",
    "Timings",
    "__version__",
    "detect",
    "doctor",
    "load_mano",
    "load_motion",
    "refine",
    "report_sheet",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hoirt' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
