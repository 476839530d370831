"""
The kernels of hoirt._core on a CUDA device: raw device addresses and stream handles as integers (torch:
tensor.data_ptr(), stream.cuda_stream). Launches are asynchronous; results equal the CPU's to the bit. The module
needs no CUDA runtime to import: a missing driver is a BackendError at the first call.
"""

from __future__ import annotations

import collections.abc
import typing

import numpy.typing

import hoirt._core

__all__: list[str] = [
    "GuidedStep",
    "Resize",
    "coloured_depth",
    "coloured_instances",
    "coloured_normals",
    "colours",
    "cuda_version",
    "device_count",
    "draw_hands",
    "hand_depth",
    "match_colours",
    "match_colours_workspace",
    "normalise",
    "paste",
    "philox_normal",
    "rasterize",
]

class GuidedStep:
    """
    One row of a step table on device memory; see hoirt._core.StepTable for the letters.
    Addresses are integers, 0 is null; memory is (items, item_size) of `dtype`, "float32",
    "float16" or "bfloat16", noise always float32. The arithmetic is float64.
    """
    def __init__(
        self,
        *,
        items: typing.SupportsInt | typing.SupportsIndex,
        item_size: typing.SupportsInt | typing.SupportsIndex,
        dtype: str = "float32",
    ) -> None: ...
    def launch(self, *, stream: typing.SupportsInt | typing.SupportsIndex = 0) -> None:
        """
        Enqueues the step on a cudaStream_t (0: the default stream). Raises InputError or BackendError.
        """
    @property
    def A(self) -> float: ...
    @A.setter
    def A(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def B(self) -> float: ...
    @B.setter
    def B(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def C(self) -> float: ...
    @C.setter
    def C(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def D(self) -> float: ...
    @D.setter
    def D(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def E(self) -> float: ...
    @E.setter
    def E(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def F(self) -> float: ...
    @F.setter
    def F(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def G(self) -> float: ...
    @G.setter
    def G(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def H(self) -> float: ...
    @H.setter
    def H(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def clean(self) -> int:
        """
        x0, or 0
        """
    @clean.setter
    def clean(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def clip(self) -> float: ...
    @clip.setter
    def clip(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def conditional(self) -> int:
        """
        c; 0: out = 0
        """
    @conditional.setter
    def conditional(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def copy(self) -> int:
        """
        a second copy of x', or 0
        """
    @copy.setter
    def copy(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def guidance(self) -> float: ...
    @guidance.setter
    def guidance(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def known(self) -> int:
        """
        z
        """
    @known.setter
    def known(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def known_noise(self) -> int:
        """
        n', or 0 for Philox
        """
    @known_noise.setter
    def known_noise(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def mask(self) -> int:
        """
        m, full shape; 0: no known region
        """
    @mask.setter
    def mask(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def next(self) -> int:
        """
        x'; may be state
        """
    @next.setter
    def next(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def noise(self) -> int:
        """
        n, or 0 for Philox
        """
    @noise.setter
    def noise(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def previous_clean(self) -> int:
        """
        x0 of the row before; 0 where E is 0
        """
    @previous_clean.setter
    def previous_clean(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def row(self) -> int:
        """
        The row whose Philox streams are drawn; -1 for the initial state.
        """
    @row.setter
    def row(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def seeds(self) -> int:
        """
        uint64 (items,), the Philox seed of each item
        """
    @seeds.setter
    def seeds(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def state(self) -> int:
        """
        x
        """
    @state.setter
    def state(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def unconditional(self) -> int:
        """
        u; 0: out = c
        """
    @unconditional.setter
    def unconditional(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...

class Resize:
    """
    hoirt._core.resize of arrays (H, W, channels), `dtype` "uint8" or "float32"; `size` and `out_size`
    are (height, width). launch() takes addresses; workspace_bytes lie at `workspace`, a multiple of 256.
    """
    def __init__(
        self,
        *,
        size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
        out_size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
        channels: typing.SupportsInt | typing.SupportsIndex,
        dtype: str,
        box: numpy.typing.ArrayLike | None = None,
        filter: str = "bilinear",
    ) -> None: ...
    def launch(
        self,
        array: typing.SupportsInt | typing.SupportsIndex,
        out: typing.SupportsInt | typing.SupportsIndex,
        *,
        workspace: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...

def coloured_depth(
    depth: typing.SupportsInt | typing.SupportsIndex,
    colours: typing.SupportsInt | typing.SupportsIndex,
    range: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    pixels: typing.SupportsInt | typing.SupportsIndex,
    low: typing.SupportsFloat | typing.SupportsIndex,
    high: typing.SupportsFloat | typing.SupportsIndex,
    disparity: bool,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.coloured_depth to the address `out`; `pixels` are those of the whole clip, `range` is
    workspace, float32 (2,). Values are not checked.
    """

def coloured_instances(
    instances: typing.SupportsInt | typing.SupportsIndex,
    colours: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    ids: typing.SupportsInt | typing.SupportsIndex,
    pixels: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.coloured_instances to the address `out`; unknown ids are background.
    """

def coloured_normals(
    normals: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    pixels: typing.SupportsInt | typing.SupportsIndex,
    flip: bool,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.coloured_normals to the address `out`. Values are not checked.
    """

def colours(
    planes: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    shape: collections.abc.Iterable[typing.SupportsIndex],
    scale: typing.SupportsFloat | typing.SupportsIndex = 127.5,
    shift: typing.SupportsFloat | typing.SupportsIndex = 127.5,
    dtype: str = "float32",
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.colours of planes (N, 3, H, W), of which `shape` is (N, H, W), to the address `out`.
    """

def device_count() -> int:
    """
    How many devices the driver shows. Raises BackendError.
    """

def draw_hands(
    pictures: typing.SupportsInt | typing.SupportsIndex,
    order: typing.SupportsInt | typing.SupportsIndex,
    joints: typing.SupportsInt | typing.SupportsIndex,
    depth: typing.SupportsInt | typing.SupportsIndex,
    *,
    frames: typing.SupportsInt | typing.SupportsIndex,
    size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    lines: bool,
    joint_radius: typing.SupportsIndex,
    half_widths: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    joint_colours: numpy.typing.ArrayLike,
    limb_colours: numpy.typing.ArrayLike,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.draw_hands in place; `order` is workspace, int32 (frames, H, W), `depth` may be 0, colours
    are host arrays. Joints must be finite and within +-2^30; they are not checked.
    """

def hand_depth(
    depth: typing.SupportsInt | typing.SupportsIndex,
    instances: typing.SupportsInt | typing.SupportsIndex,
    ranges: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    frames: typing.SupportsInt | typing.SupportsIndex,
    hands: typing.SupportsInt | typing.SupportsIndex,
    pixels: typing.SupportsInt | typing.SupportsIndex,
    farthest: typing.SupportsIndex,
    nearest_integer: bool,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.hand_depth to the address `out`; `instances` 0: depth is (frames, hands, pixels).
    `ranges` is workspace, float32 (frames, hands, 2). Values are not checked; ids that are not hands are
    background.
    """

def match_colours(
    colours: typing.SupportsInt | typing.SupportsIndex,
    original: typing.SupportsInt | typing.SupportsIndex,
    hole: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    workspace: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.match_colours of pictures of `size` (H, W) to the address `out`, which may be `colours`.
    `workspace`: match_colours_workspace() bytes, at a multiple of 256.
    """

def match_colours_workspace(
    size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
) -> int:
    """
    Bytes of workspace for a match_colours().
    """

def normalise(
    pixels: typing.SupportsInt | typing.SupportsIndex,
    planes: typing.SupportsInt | typing.SupportsIndex,
    holes: typing.SupportsInt | typing.SupportsIndex = 0,
    *,
    shape: collections.abc.Iterable[typing.SupportsIndex],
    channels: typing.SupportsInt | typing.SupportsIndex = 3,
    divisor: typing.SupportsFloat | typing.SupportsIndex = 127.5,
    offset: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.normalise of pixels of `shape` (N, H, W, C) to the address `planes`; `holes` may be 0.
    """

def paste(
    picture: typing.SupportsInt | typing.SupportsIndex,
    patch: typing.SupportsInt | typing.SupportsIndex,
    alpha: typing.SupportsInt | typing.SupportsIndex,
    *,
    size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    patch_size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    top: typing.SupportsInt | typing.SupportsIndex,
    left: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    hoirt._core.paste in place on the picture at an address; `size` and `patch_size` are (height, width).
    Values of patch and alpha are not checked.
    """

def philox_normal(
    out: typing.SupportsInt | typing.SupportsIndex,
    *,
    size: typing.SupportsInt | typing.SupportsIndex,
    seed: typing.SupportsIndex,
    stream_number: typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None:
    """
    Writes `size` float32 normals of hoirt._core.philox_normal to the address `out`.
    """

def rasterize(
    vertices: numpy.typing.ArrayLike,
    faces: numpy.typing.ArrayLike,
    *,
    intrinsics: numpy.typing.ArrayLike,
    size: collections.abc.Iterable[typing.SupportsIndex],
    extrinsics: numpy.typing.ArrayLike | None = None,
    instances: numpy.typing.ArrayLike | None = None,
    near: typing.SupportsFloat | typing.SupportsIndex = 0.001,
    cull_back_faces: bool = False,
    outputs: collections.abc.Sequence[str] = ["depth"],
    threads: typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> dict[str, hoirt._core.DeviceTensor]:
    """
    hoirt._core.rasterize on a CUDA device, with the same result. `vertices` are a contiguous DLPack array on the
    device; `faces` and `instances` on it too (instances int32) or on the CPU; cameras on the CPU. Returns arrays
    on the device. All is enqueued on `stream` (a cudaStream_t as an integer, 0: the default stream); the
    host does not wait. Faces on the CPU are checked; of those on the device, ones that name no vertex or a
    vertex that is not finite are not drawn. `threads` is of no use here.
    """

__version__: str = "0.1.0"
cuda_version: str = "13.0"
