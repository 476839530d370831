"""`hoirt render`: a scene file or meshes to PNG, EXR or MP4."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoirt.cli.files import UsageError

if TYPE_CHECKING:
    from hoirt.render.rendered import Rendered
    from hoirt.render.scene import Scene

STYLES = ("handrefiner", "pam-depth", "pam-segmentation", "keypoints", "openpose", "normals", "silhouette")
# What is written frame by frame without an encoder: mode and suffix.
RAW = {
    "depth-mm": ("depth", "png"),
    "depth-exr": ("depth", "exr"),
    "normals-exr": ("normals", "exr"),
    "segmentation-ids": ("segmentation", "png"),
}
_BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to `hoirt`."""
    parser = commands.add_parser(
        "render",
        help="render meshes as depth, segmentation, keypoints, normals",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="outputs of --write:\n"
        f"  8-bit PNG or MP4: {', '.join(STYLES)}\n"
        "  depth-mm          16-bit PNG, millimetres, 0 where empty\n"
        "  depth-exr         float EXR, metres, channel Z\n"
        "  normals-exr       float EXR, camera axes x y z as R G B\n"
        "  segmentation-ids  16-bit PNG, instance id + 1, 0 where empty",
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="one scene.json, or OBJ, PLY, STL, GLB files")
    parser.add_argument("-o", "--out", required=True, type=Path, help="a folder, or a video clip.mp4")
    parser.add_argument(
        "-w", "--write", action="append", choices=(*STYLES, *RAW), metavar="OUTPUT",
        help="what to write; may be given again (depth-mm; for a video pam-depth)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="size of the picture (the scene's; 480x640)"
    )
    parser.add_argument(
        "--dataset", choices=("dexycb", "oakink2"), default="dexycb", help="whose colours and widths (dexycb)"
    )
    parser.add_argument("--fps", type=float, help="frames per second of a video (the scene's; 15)")
    parser.add_argument("--cull", action="store_true", help="leave out faces that turn away from the camera")
    parser.add_argument(
        "--near", type=float, default=1e-3, metavar="M", help="metres; what is nearer is cut off"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (all cores)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns 0 if all was written, 2 for wrong usage; errors are raised."""
    try:
        writes = _checked(options)
    except UsageError as error:
        print(f"hoirt render: {error}", file=sys.stderr)
        return 2
    from hoirt.render.rendered import STYLES as NEEDS

    scene = _scene(options)
    modes = dict.fromkeys(mode for name in writes for mode in (NEEDS.get(name) or RAW[name][:1]))
    rendered = _rendered(scene, tuple(modes), options)
    if options.out.suffix.lower() == ".mp4":
        _write_video(rendered, writes[0], scene.fps if options.fps is None else options.fps, options)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        for name in writes:
            _write_frames(rendered, name, options)
    return 0


def _checked(options: argparse.Namespace) -> list[str]:
    """The outputs to write. UsageError where the command line cannot be meant."""
    video = options.out.suffix.lower() == ".mp4"
    writes = list(dict.fromkeys(options.write or (["pam-depth"] if video else ["depth-mm"])))
    if video and (len(writes) > 1 or writes[0] in RAW):
        raise UsageError(
            f"a video shows one of {', '.join(STYLES)}; for {' and '.join(writes)} give a folder"
        )
    if not video and options.out.exists() and not options.out.is_dir():
        raise UsageError(f"{options.out} is a file; OUT must be a folder or end in .mp4")
    scenes = [name for name in options.inputs if name.lower().endswith(".json")]
    if scenes and len(options.inputs) > 1:
        raise UsageError("a scene file stands alone; name the meshes inside of it")
    return writes


def _scene(options: argparse.Namespace) -> Scene:
    """The scene file; or the meshes, each as it is in its file, before a camera that sees them all."""
    import numpy as np

    from hoirt.render.read import read_mesh
    from hoirt.render.scene import Scene, read_scene
    from hoirt.render.view import View

    if options.inputs[0].lower().endswith(".json"):
        scene = read_scene(options.inputs[0])
        return scene if options.size is None else _resized(scene, options.size)
    meshes = [read_mesh(path) for path in options.inputs]
    view = View.around(np.concatenate([mesh.vertices for mesh in meshes]), options.size or (480, 640))
    return Scene(meshes, view)


def _resized(scene: Scene, size: tuple[int, int]) -> Scene:
    """The same view in another size: the focal lengths and the principal point go with it."""
    from hoirt.render.scene import Scene
    from hoirt.render.view import View

    assert scene.view.size is not None
    rows, columns = size[0] / scene.view.size[0], size[1] / scene.view.size[1]
    inner = scene.view.intrinsics * [columns, rows, columns, rows]
    return Scene(scene.meshes, View(inner, scene.view.extrinsics, size), scene.fps)


def _rendered(scene: Scene, modes: tuple[str, ...], options: argparse.Namespace) -> Rendered:
    from hoirt.render.clip import render

    with _bar("render") as bar:
        return render(
            scene.meshes,
            scene.view,
            modes=modes,
            near=options.near,
            cull_back_faces=options.cull,
            threads=options.threads,
            on_progress=bar.to,
        )


def _picture(rendered: Rendered, name: str, options: argparse.Namespace) -> Any:
    with_dataset = name in ("keypoints", "pam-segmentation")
    return rendered.picture(name, **({"dataset": options.dataset} if with_dataset else {}))


def _write_video(rendered: Rendered, name: str, fps: float, options: argparse.Namespace) -> None:
    from hoirt.render.write import write_video

    pictures = _picture(rendered, name, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with _bar("write") as bar:
        write_video(options.out, pictures, fps=fps, on_progress=bar.to)
    print(f"{options.out}: {_frames(rendered)} of {name}")


def _frames(rendered: Rendered) -> str:
    return f"{rendered.frames} frame{'' if rendered.frames == 1 else 's'}"


def _write_frames(rendered: Rendered, name: str, options: argparse.Namespace) -> None:
    from hoirt.render.write import millimetres, numbered, write_exr, write_png, write_png16

    suffix = RAW[name][1] if name in RAW else "png"
    maps = getattr(rendered, RAW[name][0]) if name in RAW else _picture(rendered, name, options)
    with _bar("write") as bar:
        for index in range(rendered.frames):
            path = options.out / f"{name}_{index:05d}.{suffix}"
            if suffix == "exr":
                write_exr(path, maps[index])
            elif name == "depth-mm":
                write_png16(path, millimetres(maps[index]))
            elif name == "segmentation-ids":
                write_png16(path, numbered(maps[index]))
            else:
                write_png(path, maps[index])
            bar.to(index + 1, rendered.frames)
    print(f"{options.out / name}_*.{suffix}: {_frames(rendered)}")


class _bar:  # noqa: N801 - a context manager
    """A progress bar where there is a terminal."""

    def __init__(self, text: str) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped]

        off = not sys.stderr.isatty()
        self._bar: Any = tqdm(total=1, desc=text, disable=off, bar_format=_BAR, leave=False)

    def __enter__(self) -> _bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def to(self, done: int, total: int) -> None:
        """Moves the bar to `done` of `total`."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 480x640 (height x width)")
    sides = int(height), int(width)
    if not all(1 <= side <= 8192 for side in sides):
        raise argparse.ArgumentTypeError(f"{text}: each side must be 1..8192")
    return sides
