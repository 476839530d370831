"""load(): a Picture from a path, a PIL image or an array."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt.errors import InputError
from hoirt.imaging.arrays import is_array, picture_from_array, to_uint8
from hoirt.imaging.picture import Picture, check_size
from hoirt.paths import path_of

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_PROFILED_MODES = (
    "L",
    "LA",
    "RGB",
    "RGBA",
    "P",
    "PA",
)  # their colour profile still holds after the conversion


def load(source: Any, what: str = "the image") -> Picture:
    """Reads a picture; `what` names it in messages.

    Args:
        source: path (str or os.PathLike), PIL image of any mode, NumPy array or DLPack tensor on the CPU:
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); uint8, uint16, bool or float in 0..1. Sides 1..8192.

    EXIF orientation is applied. The first frame of an animation is taken.

    Raises:
        InputError: not a file, unreadable, truncated, empty, too large, NaN, or a wrong shape or dtype.
    """
    if isinstance(source, str | os.PathLike):
        return _load_path(source)
    if _is_pil(source):
        return _guarded(source, what)
    if is_array(source):
        return picture_from_array(source, what)
    raise InputError(
        f"{what} is a {type(source).__name__}; use a path, a PIL image, or a NumPy or DLPack array"
    )


def _is_pil(source: object) -> bool:
    # A PIL image can only exist once PIL.Image has been imported; so this test need not import it. Where
    # another thread is at that, the module may still have no Image.
    import sys

    return isinstance(source, getattr(sys.modules.get("PIL.Image"), "Image", ()))


def _load_path(source: str | os.PathLike[str]) -> Picture:
    from PIL import Image

    path = path_of(source)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a picture")
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} is not a picture that can be read: {error}") from error
    with image:
        return _guarded(image, str(path))


def _guarded(image: Image, what: str) -> Picture:
    check_size(image.height, image.width, what)
    try:
        image.load()
        return _from_pil(image, what)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise InputError(f"{what} is truncated or damaged: {error}") from error


def _from_pil(image: Image, what: str) -> Picture:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)  # always a copy
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    kept = ("exif", "dpi", "icc_profile") if image.mode in _PROFILED_MODES else ("exif", "dpi")
    info = {key: image.info[key] for key in kept if image.info.get(key) is not None}
    grey = image.mode in _GREY_MODES
    if image.mode.startswith("I") or image.mode == "F":
        wide = np.asarray(image)
        if wide.dtype == np.int32:
            if wide.min() < 0 or wide.max() > 65535:
                raise InputError(
                    f"{what} holds integers in {wide.min()}..{wide.max()}; 16-bit pictures end at 65535"
                )
            wide = wide.astype(np.uint16)
        pixels = np.repeat(to_uint8(wide, what)[..., None], 3, axis=2)
        return Picture(pixels, None, image, grey=True, info=info)
    if image.has_transparency_data:
        four = np.asarray(image.convert("RGBA"))
        return Picture(np.ascontiguousarray(four[..., :3]), four[..., 3].copy(), image, grey, info)
    return Picture(np.array(image.convert("RGB")), None, image, grey, info)
