"""The optional nvdiffrast backend: the arguments and conventions of hoirt's rasteriser on top of nvdiffrast.

Conventions (nvdiffrast's documentation): clip-space positions (x, y, z, w), visible where |x|, |y|, |z| <= w;
row 0 of the result is y = -w; pixel i of n is sampled at x / w = (2 i + 1) / n - 1; the result holds (u, v,
z/w, triangle + 1), u and v being the perspective-correct weights of the triangle's first two vertices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import BackendError, InputError


def clip_matrices(
    intrinsics: NDArray[np.float64], size: tuple[int, int], near: float, far: float
) -> NDArray[np.float64]:
    """(N, 4, 4) from camera space (x right, y down, z away, 1) to clip space, for intrinsics (N, 4).

    nvdiffrast's first row is y = -w and hoirt's first row is the top one: so y is not flipped. z / w goes
    from -1 at `near` to 1 at `far`, both in metres.
    """
    height, width = size
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64).T
    matrices = np.zeros((len(fx), 4, 4))
    matrices[:, 0, 0], matrices[:, 0, 2] = 2 * fx / width, 2 * cx / width - 1
    matrices[:, 1, 1], matrices[:, 1, 2] = 2 * fy / height, 2 * cy / height - 1
    matrices[:, 2, 2], matrices[:, 2, 3] = (far + near) / (far - near), -2 * far * near / (far - near)
    matrices[:, 3, 2] = 1.0
    return matrices


def rasterize(
    vertices: Any,
    faces: Any,
    *,
    intrinsics: NDArray[np.float64],
    size: tuple[int, int],
    extrinsics: NDArray[np.float64] | None = None,
    instances: Any = None,
    near: float = 1e-3,
    cull_back_faces: bool = False,
    outputs: tuple[str, ...] = ("depth",),
    threads: int = 0,
) -> dict[str, Any]:
    """`_core.rasterize` for torch CUDA tensors through nvdiffrast; same arguments, `threads` means nothing
    here.

    Raises:
        BackendError: nvdiffrast or torch is not installed.
        InputError: back-face removal, which nvdiffrast does not have.
    """
    try:
        import nvdiffrast.torch as nvdiffrast
        import torch
    except ImportError as error:
        raise BackendError(
            f'backend="nvdiffrast" needs nvdiffrast and torch, which this environment has not: {error}'
        ) from error
    if cull_back_faces:
        raise InputError('backend="nvdiffrast" removes no back faces; use backend="hoirt"')
    device = vertices.device
    frames = max(len(vertices), len(intrinsics), 1 if extrinsics is None else len(extrinsics))
    points = vertices.to(torch.float64)
    if extrinsics is not None:
        world = torch.as_tensor(extrinsics, device=device)
        points = points @ world[:, :3, :3].transpose(1, 2) + world[:, None, :3, 3]
    far = max(float(points[..., 2].max()) * 1.01, 2 * near)
    matrices = torch.as_tensor(clip_matrices(intrinsics, size, near, far), device=device)
    ones = torch.ones_like(points[..., :1])
    clip = (torch.cat([points, ones], dim=2) @ matrices.transpose(1, 2)).to(torch.float32)
    clip = clip.expand(frames, -1, -1).contiguous()
    context = nvdiffrast.RasterizeCudaContext(device=device)
    raster, _ = nvdiffrast.rasterize(context, clip, faces.contiguous(), resolution=list(size))
    return resolved(raster, points.expand(frames, -1, -1), faces, instances, outputs)


def resolved(
    raster: Any, points: Any, faces: Any, instances: Any, outputs: tuple[str, ...]
) -> dict[str, Any]:
    """hoirt's maps from nvdiffrast's raster (N, H, W, 4) and camera-space points (N, V, 3), torch tensors."""
    import torch

    index = raster[..., 3].long() - 1
    empty = index < 0
    safe = index.clamp(min=0)
    weights = torch.stack([raster[..., 0], raster[..., 1], 1 - raster[..., 0] - raster[..., 1]], dim=-1)
    corners = faces.long()[safe]
    frame = torch.arange(len(points), device=points.device)[:, None, None]
    maps: dict[str, Any] = {}
    if "faces" in outputs:
        maps["faces"] = index.to(torch.int32)
    if "silhouette" in outputs:
        maps["silhouette"] = (~empty).to(torch.uint8)
    if "barycentrics" in outputs:
        maps["barycentrics"] = weights.masked_fill(empty[..., None], 0).to(torch.float32)
    if "instances" in outputs:
        ids = (
            torch.zeros(len(faces), dtype=torch.int32, device=faces.device)
            if instances is None
            else instances
        )
        maps["instances"] = ids[safe].masked_fill(empty, -1)
    if "depth" in outputs:
        depth = sum(weights[..., i] * points[frame, corners[..., i], 2] for i in range(3))
        maps["depth"] = depth.masked_fill(empty, 0).to(torch.float32)
    if "normals" in outputs:
        first, second, third = (points[frame, corners[..., i]] for i in range(3))
        normal = torch.nn.functional.normalize(torch.linalg.cross(second - first, third - first), dim=-1)
        away = (normal * first).sum(dim=-1, keepdim=True) > 0
        maps["normals"] = (
            torch.where(away, -normal, normal).masked_fill(empty[..., None], 0).to(torch.float32)
        )
    return maps
