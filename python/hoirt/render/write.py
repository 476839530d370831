"""Maps and pictures of a clip to files: PNG of 8 and 16 bit, EXR, MP4; each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.atomic_file import appearing
from hoirt.errors import BackendError, InputError
from hoirt.imaging import save
from hoirt.paths import path_of
from hoirt.render.exr import exr_bytes

MILLIMETRES = 1000.0


def write_png(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> Path:
    """Writes uint8 (H, W) or (H, W, 3)."""
    path = _with_suffix(path, ".png")
    if (
        picture.dtype != np.uint8
        or picture.ndim not in (2, 3)
        or (picture.ndim == 3 and picture.shape[2] != 3)
    ):
        raise InputError(f"a PNG needs uint8 (H, W) or (H, W, 3), not {picture.dtype} {picture.shape}")
    return save(np.ascontiguousarray(picture), path)


def write_png16(path: str | os.PathLike[str], values: NDArray[np.uint16]) -> Path:
    """Writes uint16 (H, W)."""
    from PIL import Image

    path = _with_suffix(path, ".png")
    if values.dtype != np.uint16 or values.ndim != 2:
        raise InputError(f"a 16-bit PNG needs uint16 (H, W), not {values.dtype} {values.shape}")
    return save(Image.fromarray(np.ascontiguousarray(values)), path)


def millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth in metres as uint16 millimetres, rounded; 0 stays 0, and nothing else becomes 0.

    Raises:
        InputError: a depth is negative, NaN, or more than the 65.535 m that 16 bits hold.
    """
    rounded = np.rint(np.asarray(depth, np.float64) * MILLIMETRES)
    if not ((rounded >= 0) & (rounded <= 65535)).all():
        raise InputError(
            f"16-bit millimetres hold depths of 0..65.535 m, not {np.min(depth):g}..{np.max(depth):g}; "
            "write EXR"
        )
    return np.asarray(np.where(depth > 0, np.maximum(rounded, 1), 0), np.uint16)


def numbered(instances: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Ids as uint16 id + 1, the background (-1) as 0. InputError for an id above 65534."""
    if instances.max(initial=-1) > 65534 or instances.min(initial=0) < -1:
        raise InputError(f"16-bit pictures hold ids 0..65534, not {instances.max()}")
    return np.asarray(instances + 1, np.uint16)


def write_exr(path: str | os.PathLike[str], values: NDArray[np.float32]) -> Path:
    """Writes float32 (H, W) as channel Z, or (H, W, 3) as R, G, B."""
    path = _with_suffix(path, ".exr")
    if values.ndim == 3 and values.shape[2] == 3:
        channels = dict(zip("RGB", np.moveaxis(values, 2, 0), strict=True))
    elif values.ndim == 2:
        channels = {"Z": values}
    else:
        raise InputError(f"an EXR file needs (H, W) or (H, W, 3), not {values.shape}")
    data = exr_bytes(channels)
    with _appearing(path) as temporary:
        temporary.write_bytes(data)
    return path


def write_video(
    path: str | os.PathLike[str],
    frames: NDArray[np.uint8],
    *,
    fps: float = 15.0,
    quality: int = 18,
    on_progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Writes uint8 (N, H, W, 3) or (N, H, W) as H.264 in MP4, 4:2:0, so that every player shows it.

    Args:
        fps: frames per second, 0.1..240.
        quality: x264's constant rate factor, 0 (lossless but for the colours' resolution) .. 51.
        on_progress: called with (frames written, frames of all).

    Raises:
        InputError: wrong shape or dtype, odd sides, which 4:2:0 cannot have, or a wrong rate.
        BackendError: PyAV is not installed or has no H.264 encoder.
    """
    path = _with_suffix(path, ".mp4")
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[3] != 3):
        raise InputError(f"a video needs uint8 (N, H, W, 3) or (N, H, W), not {frames.dtype} {frames.shape}")
    count, height, width = frames.shape[:3]
    if count == 0 or height % 2 or width % 2 or height == 0 or width == 0:
        raise InputError(
            f"an MP4 needs frames with even sides, not {count} of {height}x{width}; "
            f"{max(height + height % 2, 2)}x{max(width + width % 2, 2)} is right"
        )
    if not 0.1 <= fps <= 240.0:
        raise InputError(f"fps must be 0.1..240, not {fps!r}")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 0 <= quality <= 51:
        raise InputError(f"quality must be an integer 0..51, not {quality!r}")
    try:
        import av
    except ImportError as error:
        raise BackendError(f'MP4 is written by PyAV: pip install "hoirt[video]" ({error})') from error
    with _appearing(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4") as container:
                stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": str(quality)}
                for index, pixels in enumerate(frames):
                    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(colour), format="rgb24")
                    container.mux(stream.encode(frame))
                    if on_progress is not None:
                        on_progress(index + 1, count)
                container.mux(stream.encode())
        except (av.error.FFmpegError, ValueError) as error:
            raise BackendError(f"{path}: PyAV cannot encode H.264: {error}") from error
    return path


def _with_suffix(path: str | os.PathLike[str], suffix: str) -> Path:
    path = path_of(path)
    if path.suffix.lower() != suffix:
        raise InputError(f"{path} must end in {suffix}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder")
    return path


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """`appearing`, with what the system says as an InputError."""
    try:
        with appearing(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
