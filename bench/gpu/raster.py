"""The rasteriser on the GPU beside the one on the CPU: depth and ids of a clip, which must agree."""

from __future__ import annotations

import numpy as np
import torch

from bench.gpu.session import Session
from bench.raster_scene import INTRINSICS, SIZE, ring


def run(session: Session) -> None:
    from hoirt import _core

    frames, around = (2, 24) if session.tiny else (49, 512)
    points, faces = ring(around, 46)
    turns = np.linspace(0, 2, frames)[:, None, None]
    vertices = np.asarray(points[None] + [0, 0, 0.5] + 0.01 * np.sin(turns), np.float32)
    outputs = ["depth", "instances"]
    instances = np.zeros(len(faces), np.int32)

    def on_cpu() -> dict[str, object]:
        return dict(
            _core.rasterize(
                vertices, faces, intrinsics=INTRINSICS, size=SIZE, instances=instances, outputs=outputs
            )
        )

    label = f"{frames} frames, {len(faces)} faces, {SIZE[1]} x {SIZE[0]}"
    session.add("raster", "hoirt CPU", session.measure(on_cpu, 3), note=label)
    if not session.on_gpu:
        return
    from hoirt import _core_cuda

    place = torch.from_numpy(vertices).to(session.device)
    triangles, ids = (torch.from_numpy(array).to(session.device) for array in (faces, instances))
    stream = torch.cuda.current_stream().cuda_stream

    def on_gpu() -> dict[str, object]:
        return dict(
            _core_cuda.rasterize(
                place,
                triangles,
                intrinsics=INTRINSICS,
                size=SIZE,
                instances=ids,
                outputs=outputs,
                stream=stream,
            )
        )

    with session.attempt("raster", "hoirt GPU"):
        found, wanted = on_gpu(), on_cpu()
        same = all(
            np.array_equal(torch.from_dlpack(found[name]).cpu().numpy(), np.asarray(wanted[name]))
            for name in outputs
        )
        note = "the same as on the CPU to the bit" if same else "NOT the same as on the CPU"
        session.add("raster", "hoirt GPU", session.measure(on_gpu), note=note)
        session.ratios("raster", "hoirt GPU")
