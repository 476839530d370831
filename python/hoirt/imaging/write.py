"""save(): a picture to a file, atomically, in the format of the suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt.atomic_file import appearing
from hoirt.errors import InputError
from hoirt.paths import path_of

if TYPE_CHECKING:
    from PIL.Image import Image


def save(image: Any, path: str | os.PathLike[str]) -> Path:
    """Writes `image` (PIL image, or uint8 array of 1, 3 or 4 channels) to `path` and returns the path.

    The suffix names the format; JPEG is written at quality 95 without chroma subsampling. Modes that the
    format cannot hold are converted: alpha is laid over white. The file appears whole or not at all.

    Raises:
        InputError: unknown suffix, missing folder, or the file cannot be written.
    """
    from PIL import Image

    path = path_of(path)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format is None or file_format not in Image.SAVE:
        raise InputError(
            f"{path}: the suffix {path.suffix!r} names no picture format; use .png, .jpg, .webp or .tif"
        )
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    picture = Image.fromarray(_squeezed(image)) if isinstance(image, np.ndarray) else image
    options = {key: picture.info[key] for key in ("icc_profile", "exif", "dpi") if picture.info.get(key)}
    if file_format == "JPEG":
        picture = _without_alpha(picture)
        options |= {"quality": 95, "subsampling": 0}
    _write(picture, path, file_format, options)
    return path


def _write(picture: Image, path: Path, file_format: str, options: dict[str, Any]) -> None:
    try:
        with appearing(path) as temporary, temporary.open("xb") as file:
            picture.save(file, format=file_format, **options)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _squeezed(array: Any) -> Any:
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _without_alpha(picture: Image) -> Image:
    from PIL import Image

    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")
