"""render(): meshes and cameras to maps, frame by frame in chunks, on the device of the vertices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt.backends.devices import open_device
from hoirt.errors import BackendError, Cancelled, InputError, OutOfMemory
from hoirt.memory import with_memory
from hoirt.render import arrays
from hoirt.render.mesh import JOINTS, Mesh, as_meshes
from hoirt.render.rendered import Category, Rendered
from hoirt.render.view import View

if TYPE_CHECKING:
    from hoirt._core import CancelToken

# What the rasteriser is asked for in each mode.
_OUTPUTS = {
    "depth": "depth",
    "segmentation": "instances",
    "parts": "faces",
    "normals": "normals",
    "silhouette": "silhouette",
    "faces": "faces",
    "barycentrics": "barycentrics",
}
_MAPS: dict[str, tuple[str, tuple[int, ...]]] = {  # dtype, and extents behind (N, H, W)
    "depth": ("float32", ()),
    "instances": ("int32", ()),
    "faces": ("int32", ()),
    "barycentrics": ("float32", (3,)),
    "normals": ("float32", (3,)),
    "silhouette": ("bool", ()),
}
MODES = (*_OUTPUTS, "keypoints")
BACKENDS = ("hoirt", "nvdiffrast")
_CHUNK_PIXELS = 1 << 25  # of one call: about a second, after which Ctrl-C is heard


def render(
    meshes: Any,
    camera: Any,
    size: tuple[int, int] | None = None,
    *,
    modes: Sequence[str] = ("depth", "segmentation", "keypoints"),
    near: float = 1e-3,
    cull_back_faces: bool = False,
    threads: int = 0,
    backend: str = "hoirt",
    cancel: CancelToken | None = None,
    on_progress: Callable[[int, int], bool | None] | None = None,
) -> Rendered:
    """Renders triangle meshes, one frame or a clip.

    Args:
        meshes: one or a sequence of: `hoirt.Mesh` (which can move, and says ids, parts, joints); a tuple
            (vertices (V, 3) or (N, V, 3) float32 or float64 metres, faces (F, 3) integers); a `hoirt.Hand`; a
            trimesh object; the path of an OBJ, PLY, STL or GLB file (needs `hoirt[mesh]`).
        camera: `hoirt.View` (which can move, and has extrinsics); `hoirt.Camera` or fx, fy, cx, cy as (4,) or
            (N, 4); or K as (3, 3) or (N, 3, 3). OpenCV axes; the point (j + 0.5, i + 0.5) is the centre of
            pixel (i, j). Camera and meshes move over the same number of frames, or stand still.
        size: (H, W), sides 1..8192; None: the View's.
        modes: any of "depth", "segmentation", "parts", "normals", "silhouette", "keypoints", "faces",
            "barycentrics"; the fields of the result.
        near: metres; what is nearer is cut off.
        cull_back_faces: leaves out faces that turn away from the camera.
        threads: CPU threads; 0: all cores. The result does not depend on it.
        backend: "hoirt", or "nvdiffrast" for CUDA tensors where it is installed.
        cancel: a token that stops a long clip between chunks of frames.
        on_progress: called with (frames done, frames of all); returning False cancels.

    Returns:
        Rendered: NumPy arrays, or arrays of the library and on the device of the vertices (any that speaks
        DLPack: torch, JAX, CuPy). CUDA arrays are rendered there.

    Raises:
        InputError: wrong shapes, dtypes, ranges or NaN; unknown mode; arrays of two libraries or devices.
        BackendError: the device or the backend is not available; the message says why.
        Cancelled: by `cancel` or `on_progress`.
        OutOfMemory: the maps do not fit.
    """
    wanted = _checked_modes(modes)
    view = View.of(camera, size)
    if view.size is None:
        raise InputError("the size of the picture is not known; give size=(H, W)")
    if not isinstance(near, float | int | np.floating) or not 0 < near < np.inf:
        raise InputError(f"near must be a positive number of metres, not {near!r}")
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or not 0 <= threads <= 1024:
        raise InputError(f"threads must be an integer 0..1024, not {threads!r}")
    given = as_meshes(meshes)
    library = arrays.common_library(_dlpack_sources(meshes))
    frames = _frames(given, view)
    rasterize = _rasterizer(given, backend)
    options = {"near": float(near), "cull_back_faces": bool(cull_back_faces), "threads": int(threads)}
    outputs = tuple(dict.fromkeys(_OUTPUTS[mode] for mode in wanted if mode != "keypoints"))
    maps: dict[str, Any] = {}
    if outputs:
        scene = _Scene(given)
        maps = _rendered_maps(scene, view, frames, outputs, rasterize, options, cancel, on_progress)
        if "parts" in wanted:
            maps["parts"] = scene.parts_of(maps["faces"])
        if "faces" not in wanted:
            maps.pop("faces", None)
        if "instances" in maps:
            maps["segmentation"] = maps.pop("instances")
    if "keypoints" in wanted:
        maps |= _keypoints(given, view, frames)
    # Those with joints first, in the order of the keypoints.
    hands = sorted((mesh for mesh in given if mesh.is_hand), key=lambda mesh: mesh.joints is None)
    return Rendered(
        size=view.size,
        frames=frames,
        categories=_categories(given),
        hands=tuple(dict.fromkeys(_id(mesh) for mesh in hands)),
        **{
            name: arrays.into_library(arrays.beside(array, given[0].vertices), library)
            for name, array in maps.items()
        },
    )


def _checked_modes(modes: Sequence[str]) -> tuple[str, ...]:
    names = (modes,) if isinstance(modes, str) else tuple(modes)
    for name in names:
        if name not in MODES:
            raise InputError(f"mode {name!r} is unknown; known are {', '.join(MODES)}")
    if not names:
        raise InputError(f"no mode was asked for; known are {', '.join(MODES)}")
    return names


def _dlpack_sources(meshes: Any) -> list[Any]:
    """The arrays as they came in, whose library the results shall have."""
    several = isinstance(meshes, list) or (isinstance(meshes, tuple) and not hasattr(meshes, "_fields"))
    found: list[Any] = []
    for item in meshes if several else (meshes,):
        if isinstance(item, Mesh):
            found += [item.vertices, item.poses]
        elif isinstance(item, tuple) and item:
            found.append(item[0])
        else:
            found.append(item)  # an array of a bare pair, or an object that has no library
    return [item for item in found if hasattr(item, "__dlpack__")]


def _frames(meshes: list[Mesh], view: View) -> int:
    moving = max(mesh.frames for mesh in meshes)
    if 1 < moving != view.frames > 1:
        raise InputError(f"the meshes move over {moving} frames but the camera over {view.frames}")
    return max(moving, view.frames)


def _rasterizer(meshes: list[Mesh], backend: str) -> Callable[..., Any]:
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is unknown; known are {', '.join(BACKENDS)}")
    places = {arrays.device_of(mesh.vertices) in arrays.CUDA_DEVICES for mesh in meshes}
    if len(places) > 1:
        raise InputError("some vertices are on the CPU and some on a CUDA device; put all on one device")
    on_cuda = places == {True}
    if backend == "nvdiffrast":
        from hoirt.render.nvdiffrast import rasterize as nvdiffrast_rasterize

        if not on_cuda:
            raise InputError(
                'backend="nvdiffrast" renders torch tensors on a CUDA device; these are on the CPU'
            )
        return nvdiffrast_rasterize
    if on_cuda:
        try:
            from hoirt import _core_cuda
        except ImportError as error:
            raise BackendError(
                f"the vertices are on a CUDA device, but hoirt was built without CUDA: {error}; "
                "build with HOIRT_CUDA=ON, or move them to the CPU"
            ) from error
        found: Callable[..., Any] | None = getattr(_core_cuda, "rasterize", None)
        if found is None:
            raise BackendError(
                "this build of hoirt's CUDA module has no rasterizer; move the vertices to the CPU"
            )
        return _with_memory(partial(found, stream=arrays.stream_of(meshes[0].vertices)), meshes[0].vertices)
    from hoirt import _core

    return _core.rasterize


def _with_memory(draw: Callable[..., Any], vertices: Any) -> Callable[..., Any]:
    def drawn(*given: Any, **options: Any) -> Any:
        device = open_device(f"cuda:{vertices.__dlpack_device__()[1]}")
        return with_memory(device, partial(draw, *given, **options))

    return drawn


def _id(mesh: Mesh) -> int:
    assert mesh.instance is not None  # as_meshes has given it one
    return mesh.instance


def _categories(meshes: list[Mesh]) -> dict[int, Category]:
    found: dict[int, Category] = {}
    for mesh in meshes:
        category: Category = "hand" if mesh.is_hand else mesh.category
        if found.setdefault(_id(mesh), category) != category:
            raise InputError(
                f"two meshes have the instance id {mesh.instance} but the categories "
                f"{found[_id(mesh)]!r} and {category!r}"
            )
    return found


class _Scene:
    """All meshes as one list of triangles."""

    def __init__(self, meshes: list[Mesh]) -> None:
        # On a device everything goes beside the vertices.
        self.meshes = [
            replace(mesh, faces=arrays.beside(mesh.faces, mesh.vertices), poses=_beside(mesh.poses, mesh))
            for mesh in meshes
        ]
        offsets = np.cumsum([0, *(mesh.vertices.shape[1] for mesh in meshes)])
        if offsets[-1] > 2**31 - 1:
            raise InputError(f"the scene has {offsets[-1]} vertices; at most 2147483647 are supported")
        self.faces = arrays.joined(
            [mesh.faces + int(at) for mesh, at in zip(self.meshes, offsets, strict=False)], 0
        )
        ids = [np.full(mesh.faces.shape[0], _id(mesh), np.int32) for mesh in meshes]
        self.instances = arrays.beside(np.concatenate(ids), self.faces)

    def vertices(self, start: int, stop: int) -> Any:
        """World vertices (stop - start, V, 3), or (1, V, 3) where nothing moves."""
        pieces = [_world(mesh, mesh.vertices, start, stop) for mesh in self.meshes]
        if len({str(piece.dtype) for piece in pieces}) > 1:
            pieces = [arrays.to_float64(piece) for piece in pieces]
        count = max(piece.shape[0] for piece in pieces)
        return arrays.joined([arrays.stretched(piece, count) for piece in pieces], 1)

    def parts_of(self, faces: Any) -> Any:
        """The part number of each pixel's face; -1 where there is none."""
        numbers = [
            np.zeros(mesh.faces.shape[0], np.int32) if mesh.parts is None else mesh.parts
            for mesh in self.meshes
        ]
        # The extra last entry is what the index -1 finds.
        table = [*numbers, np.full(1, -1, np.int32)]
        return arrays.joined([arrays.beside(part, self.faces) for part in table], 0)[faces]


def _beside(array: Any, mesh: Mesh) -> Any:
    return None if array is None else arrays.beside(array, mesh.vertices)


def _world(mesh: Mesh, points: Any, start: int, stop: int) -> Any:
    """Points (frames or 1, P, 3) of a mesh in the world, in frames start .. stop."""

    def some(array: Any) -> Any:
        return array[start:stop] if array.shape[0] > 1 else array

    if mesh.poses is None:
        return some(points)
    poses = arrays.to_float64(some(mesh.poses))
    return arrays.to_float64(some(points)) @ poses[:, :3, :3].swapaxes(1, 2) + poses[:, None, :3, 3]


def _rendered_maps(
    scene: _Scene,
    view: View,
    frames: int,
    outputs: tuple[str, ...],
    rasterize: Callable[..., Any],
    options: dict[str, Any],
    cancel: CancelToken | None,
    on_progress: Callable[[int, int], bool | None] | None,
) -> dict[str, Any]:
    assert view.size is not None
    step = max(options["threads"] or os.cpu_count() or 1, _CHUNK_PIXELS // (view.size[0] * view.size[1]), 1)
    try:
        maps = _Maps(scene, outputs, (frames, *view.size), step)
        for start in range(0, frames, step):
            if cancel is not None and cancel.cancelled:
                raise Cancelled(f"rendering was cancelled after {start} of {frames} frames")
            stop = min(start + step, frames)
            cameras = view.part(start, stop)
            chunk = rasterize(
                arrays.contiguous(scene.vertices(start, stop)),
                scene.faces,
                intrinsics=cameras.intrinsics,
                size=view.size,
                extrinsics=cameras.extrinsics,
                instances=scene.instances,
                outputs=outputs,
                **options,
            )
            maps.keep(chunk, start, stop)
            if on_progress is not None and on_progress(stop, frames) is False:
                raise Cancelled(f"on_progress stopped the rendering after {stop} of {frames} frames")
        return maps.whole()
    except MemoryError as error:
        height, width = view.size
        raise OutOfMemory(f"{frames} frames of {height}x{width} do not fit into memory: {error}") from error


class _Maps:
    """The maps of a clip, put together from chunks of frames."""

    def __init__(self, scene: _Scene, outputs: tuple[str, ...], shape: tuple[int, int, int], step: int):
        self.library = arrays.library_of(scene.faces)
        self.chunks: dict[str, list[Any]] = {name: [] for name in outputs}
        # On the CPU a clip of several chunks is written into place, so that memory holds it only once.
        self.placed: dict[str, Any] = {}
        if self.library == "numpy" and step < shape[0]:
            for name in outputs:
                dtype, extents = _MAPS[name]
                self.placed[name] = np.empty((*shape, *extents), dtype)

    def keep(self, chunk: dict[str, Any], start: int, stop: int) -> None:
        for name, part in chunk.items():
            if self.placed:
                self.placed[name][start:stop] = part
            else:
                self.chunks[name].append(arrays.into_library(part, self.library))

    def whole(self) -> dict[str, Any]:
        return self.placed or {name: arrays.joined(parts, 0) for name, parts in self.chunks.items()}


def _keypoints(meshes: list[Mesh], view: View, frames: int) -> dict[str, Any]:
    pixels, depths = [], []
    for mesh in meshes:
        if mesh.joints is None:
            continue
        still = replace(mesh, poses=None if mesh.poses is None else arrays.on_cpu(mesh.poses))
        flat, depth = view.project(_world(still, arrays.on_cpu(mesh.joints), 0, frames))
        pixels.append(np.broadcast_to(flat, (frames, JOINTS, 2)))
        depths.append(np.broadcast_to(depth, (frames, JOINTS)))
    if not pixels:
        return {
            "keypoints": np.zeros((frames, 0, JOINTS, 2), np.float32),
            "keypoint_depth": np.zeros((frames, 0, JOINTS), np.float32),
        }
    return {
        "keypoints": np.stack(pixels, axis=1).astype(np.float32),
        "keypoint_depth": np.stack(depths, axis=1).astype(np.float32),
    }
