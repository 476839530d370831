"""How fast the rasteriser is, beside ray casting by Open3D and by NumPy (trimesh), same threads, in one run.

    python -m bench.raster [--threads N] [--rounds 9] [--out FILE]

Open3D is not a dependency: without it (`pip install open3d`) its figures are left out. Prints each figure
beside its bound; exit code 1 if a bound is missed. bench/README.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hoirt import _core
from hoirt.render.draw import draw_hand
from hoirt.render.encode import hand_depth, pam_segmentation
from numpy.typing import NDArray

from bench.raster_scene import FRAMES, INTRINSICS, SIZE, Clip, clip, hand_mesh
from bench.record import RESULTS, Figure, document, table, write_json
from bench.stopwatch import Seconds, in_turns

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "raster_scaling.png"
Measured = tuple[list[Figure], dict[str, Seconds]]
Floats = NDArray[np.float32]


def draw(scene: Clip, threads: int, outputs: Sequence[str] = ("depth", "instances")) -> dict[str, Any]:
    return _core.rasterize(
        scene.vertices,
        scene.faces,
        intrinsics=INTRINSICS,
        size=SIZE,
        instances=scene.instances,
        outputs=outputs,
        threads=threads,
    )


def condition(scene: Clip, threads: int) -> tuple[Floats, NDArray[np.uint8], NDArray[np.uint8]]:
    """What a video model is conditioned on: metric depth, coloured segmentation, hand keypoints."""
    drawn = draw(scene, threads)
    segmentation = pam_segmentation(drawn["instances"], ["hand", 5], threads=threads)
    return drawn["depth"], segmentation, draw_hand(scene.keypoints, SIZE, threads=threads)


def open3d_caster(scene: Clip, threads: int) -> Callable[[], tuple[Floats, NDArray[np.int32]]]:
    """Depth and ids of every frame by Open3D, its scene built anew as the mesh moves. Raises ImportError."""
    import open3d

    caster = open3d.t.geometry.RaycastingScene
    tensor = open3d.core.Tensor
    fx, fy, cx, cy = INTRINSICS
    rays = caster.create_rays_pinhole(
        np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.eye(4), SIZE[1], SIZE[0]
    )
    cut, split = scene.hand_vertices, scene.hand_faces
    hand = tensor(scene.faces[:split].astype(np.uint32))
    thing = tensor((scene.faces[split:] - cut).astype(np.uint32))

    def cast() -> tuple[Floats, NDArray[np.int32]]:
        depths, ids = [], []
        for vertices in scene.vertices:
            world = caster(nthreads=threads)
            world.add_triangles(tensor(vertices[:cut]), hand)
            world.add_triangles(tensor(vertices[cut:]), thing)
            answer = world.cast_rays(rays, nthreads=threads)
            depths.append(answer["t_hit"].numpy())
            ids.append(answer["geometry_ids"].numpy().astype(np.int32))  # 2^32 - 1 becomes -1
        depth = np.stack(depths)
        depth[np.isinf(depth)] = 0
        return depth, np.stack(ids)

    return cast


def bandwidth(rounds: int) -> float:
    """Bytes per second that one large copy reads and writes."""
    source = np.ones(64 << 20, np.uint8)
    target = np.empty_like(source)
    taken = in_turns({"copy": lambda: np.copyto(target, source)}, 3 * rounds)["copy"]
    return 2 * source.nbytes / taken.least


def clips(threads: int, rounds: int) -> Measured:
    """The clip of hand and object, whole and in parts, beside Open3D and beside the memory's speed."""
    scene = clip()
    drawn = draw(scene, threads)
    cases: dict[str, Callable[[], Any]] = {
        "depth, segmentation, keypoints": partial(condition, scene, threads),
        "depth and ids": partial(draw, scene, threads),
        "segmentation": lambda: pam_segmentation(drawn["instances"], ["hand", 5], threads=threads),
        "keypoints": lambda: draw_hand(scene.keypoints, SIZE, threads=threads),
        "all outputs": partial(
            draw, scene, threads, ("depth", "instances", "faces", "barycentrics", "normals", "silhouette")
        ),
    }
    figures: list[Figure] = []
    try:
        caster = open3d_caster(scene, threads)
        # Large pages are slow to come by just after Open3D has freed its memory: an uncounted case pays.
        settling = {"settling": partial(condition, scene, threads)}
        cases = settling | cases | {"Open3D, depth and ids": caster}
    except ImportError as error:
        print(f"Open3D is left out: {error}")
    taken = in_turns(cases, rounds)
    taken.pop("settling", None)
    taken = {name: seconds.divided(FRAMES) for name, seconds in taken.items()}
    if "Open3D, depth and ids" in taken:
        theirs = taken["Open3D, depth and ids"]
        for name, bound in (("depth, segmentation, keypoints", 10.0), ("depth and ids", None)):
            what, ours = f"clip, Open3D depth and ids / hoirt {name}", taken[name]
            figures += [
                Figure(what, theirs.median / ours.median, "x", bound, "at least"),
                Figure(f"{what}, best rounds", theirs.least / ours.least, "x"),
            ]
        depth, ids = caster()
        seen = (depth > 0) & (drawn["depth"] > 0)
        apart = np.abs(depth - drawn["depth"])[seen] > 1e-5 * depth[seen]
        other = (ids != drawn["instances"]).sum()
        figures += [
            Figure("pixels of the clip that show a mesh", float(seen.sum())),
            Figure("of them, Open3D gives another id", float(other), "", 100),
            Figure("of them, Open3D's depth differs by more than 1e-5", float(apart.sum()), "", 100),
        ]
    figures += [Figure(f"one frame, {name}", 1e3 * seconds.median, "ms") for name, seconds in taken.items()]
    moved = scene.vertices.nbytes + FRAMES * scene.faces.nbytes + 2 * drawn["depth"].nbytes
    limit = moved / bandwidth(rounds) / FRAMES
    figures += [
        Figure(
            "one frame, reading the mesh and writing depth and ids at the speed of a copy", 1e3 * limit, "ms"
        ),
        Figure("depth and ids / that limit", taken["depth and ids"].median / limit, "x"),
    ]
    return figures, taken


def hand_depth_maps(threads: int, rounds: int) -> Measured:
    """HandRefiner's 256 x 256 depth map of a hand of MANO's size, beside the ray casting that it replaces."""
    import trimesh
    from trimesh.ray.ray_triangle import RayMeshIntersector

    side, scale = 256, 0.9 * 2 / 0.2
    focal = 1000 * side / 224
    mesh, faces = hand_mesh(1538)
    vertices = mesh + np.array([0, 0, 2 * focal / (side * scale)])
    caster = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    places = (np.mgrid[:side, :side][::-1].reshape(2, -1).T + 0.5 - side / 2) / focal
    rays = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    normals = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )

    def numpy_rays() -> Floats:
        # As the reference does, the rays are cast twice: for the places and for the faces.
        points, ray, _ = caster.intersects_location(np.zeros_like(rays), rays, multiple_hits=False)
        face = caster.intersects_first(np.zeros_like(rays), rays)
        depth = np.zeros(side * side, np.float32)
        depth[ray] = points[:, 2]
        depth[(face >= 0) & ((normals[face] * rays).sum(axis=1) > 0)] = 0
        return depth.reshape(side, side)

    def ours() -> dict[str, Any]:
        return _core.rasterize(
            vertices,
            faces,
            intrinsics=(focal, focal, side / 2, side / 2),
            size=(side, side),
            cull_back_faces=True,
            outputs=("depth", "instances"),
            threads=threads,
        )

    def picture() -> NDArray[np.uint8]:
        drawn = ours()
        return hand_depth(drawn["depth"], drawn["instances"], threads=threads)

    start = time.perf_counter()
    wanted = numpy_rays()
    theirs = Seconds((time.perf_counter() - start,))
    taken = in_turns({"rasterised": ours, "rasterised and encoded": picture}, 20 * rounds)
    depth = ours()["depth"][0]
    both = (wanted > 0) & (depth > 0)
    figures = [
        Figure(
            "hand depth 256 x 256, NumPy ray casting / hoirt",
            theirs.median / taken["rasterised and encoded"].median,
            "x",
            200.0,
            "at least",
            "metric depth there, the encoded picture here",
        ),
        Figure("hand depth 256 x 256, NumPy ray casting", theirs.median, "s"),
        Figure("hand depth 256 x 256, hoirt, encoded", 1e3 * taken["rasterised and encoded"].median, "ms"),
        Figure("hand depth 256 x 256, hoirt, metric", 1e3 * taken["rasterised"].median, "ms"),
        Figure("its pixels on one side only", float(((wanted > 0) != (depth > 0)).sum()), "px", 16),
        Figure(
            "its largest relative difference of depth",
            float((np.abs(wanted - depth)[both] / wanted[both]).max()),
            "",
        ),
    ]
    return figures, {"hand depth, NumPy rays": theirs, **{f"hand depth, {k}": v for k, v in taken.items()}}


def scaling(cores: int, rounds: int) -> Measured:
    """Frames per second over threads and over faces; drawn into docs/images/raster_scaling.png."""
    scene = clip()
    threads = sorted({1, *(2**k for k in range(1, 7) if 2**k <= cores), cores})
    by_threads = in_turns({f"{n} threads": partial(draw, scene, n) for n in threads}, rounds)
    sizes = (1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000)
    scenes = {n: clip(8, n) for n in sizes}
    by_faces = {
        f"{len(each.faces)} faces": seconds.divided(8)
        for each, seconds in zip(
            scenes.values(),
            in_turns({str(n): partial(draw, each, cores) for n, each in scenes.items()}, rounds).values(),
            strict=True,
        )
    }
    plot([*zip(threads, by_threads.values(), strict=True)], by_faces, [len(s.faces) for s in scenes.values()])
    figures = [
        Figure(f"clip, depth and ids, {name}", 1e3 * seconds.median / FRAMES, "ms a frame")
        for name, seconds in by_threads.items()
    ]
    figures += [
        Figure(f"one frame, depth and ids, {name}", 1e3 * seconds.median, "ms")
        for name, seconds in by_faces.items()
    ]
    return figures, {**by_threads, **by_faces}


def plot(by_threads: list[tuple[int, Seconds]], by_faces: dict[str, Seconds], faces: list[int]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot([n for n, _ in by_threads], [FRAMES / s.median for _, s in by_threads], "o-")
    left.set(xlabel="threads", ylabel="frames per second", ylim=(0, None), title="48,662 faces")
    left.set_xticks([n for n, _ in by_threads])
    right.loglog(faces, [1 / s.median for s in by_faces.values()], "o-")
    right.set(xlabel="faces", ylabel="frames per second", title=f"{by_threads[-1][0]} threads")
    right.grid(True, alpha=0.3)
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=110)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=cores, help="of both sides; all cores if not given")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "raster.json")
    args = parser.parse_args(argv)
    measured = [
        clips(args.threads, args.rounds),
        hand_depth_maps(args.threads, args.rounds),
        scaling(args.threads, args.rounds),
    ]
    figures = [figure for part, _ in measured for figure in part]
    rounds = {name: seconds.summary() for _, part in measured for name, seconds in part.items()}
    write_json(args.out, document("raster", figures, args.threads, seconds=rounds))
    print(table(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
