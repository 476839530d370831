"""hoirt: a compiled runtime for hand-object interaction models.

    import hoirt
    result = hoirt.refine("photo.jpg", prompt="an open palm")
    result.image.save("repaired.png")

Names are imported when they are first used, so `import hoirt` is quick and needs no runtime.
"""

import threading
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
    from hoirt.render.clip import render
    from hoirt.render.mesh import Mesh
    from hoirt.render.occlusion import Occlusion, joint_occlusion
    from hoirt.render.rendered import Rendered
    from hoirt.render.view import View
    from hoirt.report import report_sheet

_LAZY = {
    "Camera": "hoirt.hands.hand",
    "CancelToken": "hoirt._core",
    "Hand": "hoirt.hands.hand",
    "Mesh": "hoirt.render.mesh",
    "Motion": "hoirt.hands.motion",
    "Occlusion": "hoirt.render.occlusion",
    "Refiner": "hoirt.pipeline.refiner",
    "Rendered": "hoirt.render.rendered",
    "Result": "hoirt.pipeline.result",
    "StepInfo": "hoirt.pipeline.result",
    "Timings": "hoirt.pipeline.timings",
    "View": "hoirt.render.view",
    "detect": "hoirt.pipeline.shared",
    "doctor": "hoirt.diagnosis",
    "joint_occlusion": "hoirt.render.occlusion",
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
    "Mesh",
    "Motion",
    "Occlusion",
    "OutOfMemory",
    "PackError",
    "Refiner",
    "Rendered",
    "Result",
    "StepInfo",
    "Timings",
    "View",
    "__version__",
    "detect",
    "doctor",
    "joint_occlusion",
    "load_mano",
    "load_motion",
    "refine",
    "render",
    "report_sheet",
]


# One thread at a time: of two that import a package and a module of it, one is given a half-made module.
_importing = threading.RLock()


def __getattr__(name: str) -> Any:
    if name == "render":  # a package that can be called; importing it binds the name
        with _importing:
            return import_module("hoirt.render")
    if name not in _LAZY:
        raise AttributeError(f"module 'hoirt' has no attribute {name!r}")
    with _importing:
        value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "render"})
