"""The renderer: `hoirt.render(meshes, camera, size)`, and what belongs to it.

The package is also the function: calling `hoirt.render(...)` calls `hoirt.render.clip.render`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from hoirt.render.clip import render
from hoirt.render.mesh import Mesh
from hoirt.render.occlusion import Occlusion, joint_occlusion
from hoirt.render.read import read_mesh
from hoirt.render.rendered import Rendered
from hoirt.render.view import View

__all__ = ["Mesh", "Occlusion", "Rendered", "View", "joint_occlusion", "read_mesh", "render"]


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Rendered:
        return render(*args, **kwargs)


# Importing any module of this package binds `hoirt.render` to the package; so it must do what the function
# does.
_CallableModule.__call__.__doc__ = render.__doc__
_CallableModule.__call__.__wrapped__ = render  # type: ignore[attr-defined]  # inspect.signature, help()
sys.modules[__name__].__class__ = _CallableModule
