"""
Native core of hoirt. The public API is the package hoirt; names here may change.
"""

from __future__ import annotations

import collections.abc
import typing

import numpy
import numpy.typing
import typing_extensions

__all__: list[str] = [
    "Backend",
    "CancelToken",
    "DenoiseLoop",
    "Device",
    "DeviceNetwork",
    "DeviceTensor",
    "LoopResult",
    "Network",
    "Port",
    "PythonNetwork",
    "StepInfo",
    "StepTable",
    "Tensor",
    "all_finite",
    "any_set",
    "coloured_depth",
    "coloured_instances",
    "coloured_normals",
    "colours",
    "cut_into",
    "distance",
    "draw_depth",
    "draw_hands",
    "grow",
    "hand_depth",
    "lay_into",
    "look_up_into",
    "match_colours",
    "normalise",
    "open_backend",
    "open_device",
    "pad_edge",
    "paste",
    "paste_into",
    "philox4x32",
    "philox_normal",
    "pose_body",
    "rasterize",
    "resize",
    "sample_posterior",
    "skin",
    "soften",
    "touched",
]

class Tensor:
    """
    A contiguous, row-major array in CPU memory that any array library can share.

    Made from NumPy, DLPack or buffer objects: zero-copy if C-contiguous, else a copy.
    float32, float64, float16, int32, int64, uint8 or bool.
    """
    def __dlpack__(
        self,
        *,
        stream: typing.Any = None,
        max_version: tuple[
            typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex
        ]
        | None = None,
        dl_device: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]
        | None = None,
        copy: bool | None = None,
    ) -> typing_extensions.CapsuleType:
        """
        A DLPack capsule, versioned if the consumer asks for version 1.
        """
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __init__(self, array: numpy.typing.ArrayLike) -> None:
        """
        Raises InputError for arrays on other devices and for other dtypes.
        """
    def __repr__(self) -> str: ...
    def numpy(self) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        A NumPy view of the memory, read-only if its source was.
        """
    @property
    def __array_interface__(self) -> dict[str, typing.Any]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

class StepTable:
    """
    A sampler as data: one row of coefficients per step, read-only.

        out = u + guidance (c - u)          guidance == 1: only c is computed
        x0  = A x + B out                   clamped to +-clip if clip > 0
        x'  = C x + D x0 + E x0_prev + F n
        x'  = m x' + (1 - m)(G z + H n')    in rows that are `known`
    and x_init = init_signal * given state + init_noise * n, then the known region at init_known = (G, H).
    Rows with `reuse` run the loop's shallow network on the features that the last row without it kept.
    """
    @staticmethod
    def from_columns(**kwargs: numpy.typing.ArrayLike | None) -> StepTable:
        """
        From columns (S,) by name; left out: guidance and control 1, others 0, known and reuse
        False, init_signal 0, init_noise 1, init_known None. Raises InputError.
        """
    @staticmethod
    def of(table: typing.Any) -> StepTable:
        """
        From any object with every column (reuse may be missing) and scalar as an attribute. Raises InputError.
        """
    def __len__(self) -> int: ...
    @property
    def A(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def B(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def C(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def D(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def E(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def F(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def G(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def H(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def clip(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def control(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def guidance(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def guided(self) -> bool:
        """
        Whether some row runs the unconditional half.
        """
    @property
    def init_known(self) -> tuple[float, float] | None: ...
    @property
    def init_noise(self) -> float: ...
    @property
    def init_signal(self) -> float: ...
    @property
    def known(self) -> numpy.typing.NDArray[numpy.bool]: ...
    @property
    def noise_streams(self) -> int:
        """
        How many draws of the state's shape a run makes: the length of `noise`.
        """
    @property
    def reuse(self) -> numpy.typing.NDArray[numpy.bool]: ...
    @property
    def timestep(self) -> numpy.typing.NDArray[numpy.float64]: ...

class CancelToken:
    """
    Stops a run at its next step; usable from any thread and for any number of runs.
    """
    def __init__(self) -> None: ...
    def cancel(self) -> None:
        """
        Stops every run that was given this token; there is no way back.
        """
    @property
    def cancelled(self) -> bool:
        """
        Whether cancel() was called.
        """

class DeviceTensor:
    """
    A contiguous, row-major array on a device that any library shares by DLPack, such as
    torch.from_dlpack. A stream that it is given to waits until it is written; the host does not.
    """
    def __dlpack__(
        self,
        *,
        stream: typing.Any = None,
        max_version: tuple[
            typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex
        ]
        | None = None,
        dl_device: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]
        | None = None,
        copy: bool | None = None,
    ) -> typing_extensions.CapsuleType:
        """
        A DLPack capsule, versioned if the consumer asks for version 1; never a copy.
        """
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __repr__(self) -> str: ...
    def numpy(self) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        A NumPy copy, made by one download; on the CPU a view. bfloat16 comes as uint16. Raises BackendError.
        """
    def reshape(self, shape: collections.abc.Iterable[typing.SupportsIndex]) -> DeviceTensor:
        """
        The same memory in another shape.
        """
    def rows(
        self, begin: typing.SupportsInt | typing.SupportsIndex, end: typing.SupportsInt | typing.SupportsIndex
    ) -> DeviceTensor:
        """
        Rows begin .. end - 1 of the first axis, in the same memory.
        """
    @property
    def address(self) -> int:
        """
        Where it begins in the device's memory.
        """
    @property
    def device(self) -> str:
        """
        "cpu" or "cuda:0".
        """
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

class Device:
    """
    Where tensors live and kernels run: the CPU or a GPU. Thread-safe.
    """
    def __repr__(self) -> str: ...
    def call(self, fn: collections.abc.Callable[[], typing.Any]) -> typing.Any:
        """
        What `fn()` returns, which opens a network or does the like; no step is recorded meanwhile, whereas what runtimes
        do then would end a recording.
        """
    def copy(self, source: numpy.typing.ArrayLike, target: DeviceTensor) -> None:
        """
        The values of an array into a DeviceTensor of its shape and dtype, in the order of stream().
        """
    def empty(
        self,
        shape: collections.abc.Iterable[typing.SupportsIndex],
        dtype: str = "float32",
        *,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> DeviceTensor:
        """
        Memory with any content, for work on stream(), or on `stream` too (a cudaStream_t as an integer). What was
        enqueued on that one must be done before the memory is given back.
        """
    def memory(self) -> tuple[int, int]:
        """
        Free and total memory in bytes.
        """
    def stream(self) -> int:
        """
        The device's own stream, for what belongs to no run: a cudaStream_t as an integer, 0 on the CPU.
        """
    def synchronize(self) -> None:
        """
        Waits for all that was enqueued on stream(). Raises BackendError if it failed.
        """
    def trim(self) -> None:
        """
        Gives memory that is kept for later use back to the system.
        """
    def upload(self, array: numpy.typing.ArrayLike) -> DeviceTensor:
        """
        The array on this device, in the order of its stream(); what is there already is shared, not copied.
        """
    def with_idle_streams(self, fn: collections.abc.Callable[[list[int]], None]) -> None:
        """
        Calls `fn(streams)` with the streams, cudaStream_t as integers, that no run has; none gets one meanwhile, so what
        is kept for them may be freed.
        """
    def zeros(
        self, shape: collections.abc.Iterable[typing.SupportsIndex], dtype: str = "float32"
    ) -> DeviceTensor:
        """
        Memory full of zeros.
        """
    @property
    def device(self) -> str:
        """
        "cpu" or "cuda:0".
        """
    @property
    def name(self) -> str:
        """
        Of the model.
        """
    @property
    def no_graphs(self) -> str:
        """
        Why it records no graphs, or "".
        """

class Port:
    """
    The name, shape (-1: any extent) and dtype of a network's input or output.
    """
    def __init__(
        self, name: str, shape: collections.abc.Iterable[typing.SupportsIndex], dtype: str = "float32"
    ) -> None: ...
    def __repr__(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

class Network:
    """
    A compiled model. Thread-safe; the GIL is released while it runs.
    """
    def run(
        self, inputs: collections.abc.Mapping[str, numpy.typing.ArrayLike]
    ) -> dict[str, numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]]:
        """
        All outputs by name for `inputs`, which names every input; those of a network on a device are DeviceTensors, in
        the order of the device's own stream. Raises InputError or BackendError.
        """
    @property
    def capturable(self) -> bool:
        """
        Whether its work may be recorded as a CUDA graph.
        """
    @property
    def device(self) -> str:
        """
        Where it runs: "cpu" or "cuda:0".
        """
    @property
    def inputs(self) -> list[Port]: ...
    @property
    def outputs(self) -> list[Port]: ...
    @property
    def twins(self) -> list[str]:
        """
        Inputs that may come with half of the items, all of them or none, where both halves of the
        batch are alike in them.
        """

class PythonNetwork(Network):
    """
    A network whose work is done by `fn(dict of arrays) -> dict of arrays`; its arrays are views that are valid
    during the call only. Exceptions of `fn` reach the caller unchanged.
    """
    def __init__(
        self,
        inputs: collections.abc.Sequence[Port],
        outputs: collections.abc.Sequence[Port],
        fn: collections.abc.Callable[
            [dict[str, numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]]],
            collections.abc.Mapping[str, numpy.typing.ArrayLike],
        ],
    ) -> None: ...

class DeviceNetwork(Network):
    """
    A network whose work `fn(inputs, outputs, stream)` enqueues on `stream`, a cudaStream_t as an integer (0 on the
    CPU, where it is done at once). `inputs` and `outputs` are dicts by name of DeviceTensors, or of NumPy views on the
    CPU, bfloat16 as uint16; they are valid during the call only. `fn` fills the outputs that it is given in place, and
    returns those given as None, as any DLPack arrays, in a dict; they are borrowed without a copy.

    If it is `capturable`, `fn` is also called inside of a stream capture, whose replays do not call it again. Memory
    that it takes then is written by every replay: it must stay its own until the network goes, and other captures
    must not share it (torch: a torch.cuda.MemPool for each).
    `twins` names inputs that `fn` also takes with half of the items: the denoise loop gives them so where both halves
    of a guided batch are alike in all of them. Exceptions of `fn` reach the caller unchanged.
    """
    def __init__(
        self,
        inputs: collections.abc.Sequence[Port],
        outputs: collections.abc.Sequence[Port],
        fn: collections.abc.Callable[
            [dict[str, typing.Any], dict[str, typing.Any], int],
            collections.abc.Mapping[str, typing.Any] | None,
        ],
        *,
        device: str,
        capturable: bool = True,
        twins: collections.abc.Sequence[str] = [],
    ) -> None: ...

class Backend:
    """
    Opens networks on one runtime.
    """
    def open(
        self,
        path: str,
        *,
        cache_path: str = "",
        shapes: collections.abc.Mapping[
            str, collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]
        ] = {},
        precision: str = "fp32",
        threads: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> Network:
        """
        The network of the ONNX file `path`; `cache_path` names a compiled blob to read or to write, `shapes` fixes
        input shapes, `precision` is fp32, bf16, fp16 or int8, `threads` 0 means all cores. Raises BackendError.
        """
    @property
    def name(self) -> str: ...
    @property
    def precisions(self) -> list[str]:
        """
        Those that this machine can run, such as "bf16", the fastest first; always with "fp32".
        """
    @property
    def version(self) -> str: ...

class StepInfo:
    """
    What on_step is told after a step.
    """
    @property
    def seconds(self) -> float:
        """
        Time of this step.
        """
    @property
    def step(self) -> int:
        """
        The row just done, from 0.
        """
    @property
    def steps(self) -> int: ...
    @property
    def timestep(self) -> float: ...
    @property
    def x0(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        A copy of the clean state predicted in this step, readable in on_step.
        """

class LoopResult:
    """
    What a run gives back.
    """
    @property
    def graph_reason(self) -> str:
        """
        "", or why steps were not.
        """
    @property
    def graphs(self) -> int:
        """
        How many steps were launched as a recorded CUDA graph.
        """
    @property
    def latents(self) -> typing.Any:
        """
        The final state, float32, of the shape asked for: a NumPy array, or a DeviceTensor where the
        loop runs on a device.
        """
    @property
    def network_seconds(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        Time of each step inside the network (S,).
        """
    @property
    def step_seconds(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        Time of each step without its callback (S,).
        """

class DenoiseLoop:
    """
    Denoises a state row by row of a step table. Thread-safe; buffers are kept between runs.

    `state`, `timestep` (or None), `control` (or None) and `output` name the network's ports; its
    other inputs are conditions, or given per step. Guided rows run one batch of 2 N, the unconditional half first.

    `reuse` (or None) is a shallow network for the table's rows with `reuse`. It takes inputs of `network` and, by
    name, outputs of it, the `features`: what they were in the last row without `reuse`, times control as it was then.

    With a `device` all runs there, as the networks do: arguments are uploaded once or, if they lie there, shared;
    a step is a CUDA graph from its second time on, and is not waited for.
    """
    def __init__(
        self,
        network: Network,
        *,
        state: str = "sample",
        timestep: str | None = "timestep",
        control: str | None = "control_scale",
        output: str = "prediction",
        reuse: Network | None = None,
        device: Device | None = None,
    ) -> None: ...
    def free_idle(self) -> None:
        """
        Frees buffers and graphs that ended runs left for later ones; Device.trim gives their memory back.
        """
    def run(
        self,
        table: typing.Any,
        *,
        shape: collections.abc.Iterable[typing.SupportsIndex],
        seeds: collections.abc.Iterable[typing.SupportsIndex],
        condition: collections.abc.Mapping[str, numpy.typing.ArrayLike] = {},
        uncondition: collections.abc.Mapping[str, numpy.typing.ArrayLike] = {},
        per_step: collections.abc.Mapping[str, numpy.typing.ArrayLike] = {},
        per_step_uncondition: collections.abc.Mapping[str, numpy.typing.ArrayLike] = {},
        control: numpy.typing.ArrayLike = 1.0,
        initial: numpy.typing.ArrayLike | None = None,
        known: numpy.typing.ArrayLike | None = None,
        mask: numpy.typing.ArrayLike | None = None,
        noise: numpy.typing.ArrayLike | None = None,
        on_step: collections.abc.Callable[[StepInfo], typing.Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> LoopResult:
        """
        Runs `table` (a StepTable or any object with its columns) on a state of `shape` (N, C, ...).

        seeds: N integers, 64 bits each; an item's noise depends on its own seed only.
        condition: inputs of the network, N or 1 items each; uncondition: those that differ without the condition.
        per_step: inputs of the network, row i for step i: (S, ...) for all items, or with one axis more (S, N, ...)
        or (S, 1, ...) for each; per_step_uncondition: those that differ without the condition.
        control: control strength, one or N. initial: given state, needed if the table's init_signal is not 0.
        known, mask: known state, and where to regenerate it (1) or keep it (0); the mask broadcasts.
        noise: float32 (K, ...) instead of Philox: initial, initial known, then per row n and n' where used.
        on_step(StepInfo): returning False raises Cancelled. cancel: a CancelToken.

        All arrays are float32, on the CPU or where the loop runs. On a device on_step is told of a step when it is
        enqueued, at most two steps ahead, unless it reads x0. Raises InputError, BackendError, Cancelled, KeyboardInterrupt.
        """
    def unload(self) -> None:
        """
        Frees the buffers and graphs that are kept between runs; the next run makes new ones.
        """
    @property
    def features(self) -> list[str]:
        """
        Names of the outputs of `network` that rows with `reuse` take; [] without a reuse network.
        """

def all_finite(array: numpy.typing.ArrayLike) -> bool:
    """
    Whether no value of a float32 array is NaN or infinite; waits for a device.
    """

def any_set(mask: numpy.typing.ArrayLike) -> bool:
    """
    Whether any pixel of `mask` (H, W) is set; waits for a device.
    """

def coloured_depth(
    depth: numpy.typing.ArrayLike,
    colours: numpy.typing.ArrayLike,
    *,
    low: typing.SupportsFloat | typing.SupportsIndex,
    high: typing.SupportsFloat | typing.SupportsIndex,
    disparity: bool,
    threads: typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    uint8 (N, H, W, 3) of depth float32 (N, H, W) through colours uint8 (256, 3); see
    hoirt.render.encode.pam_depth.
    """

def coloured_instances(
    instances: numpy.typing.ArrayLike, colours: numpy.typing.ArrayLike, *, threads: typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    uint8 (N, H, W, 3) of instances int32 (N, H, W) through colours uint8 (1 + ids, 3), background first.
    """

def coloured_normals(
    normals: numpy.typing.ArrayLike, *, flip: bool, threads: typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    uint8 (N, H, W, 3) of normals float32 (N, H, W, 3); see hoirt.render.encode.normals_picture.
    """

def colours(
    planes: numpy.typing.ArrayLike,
    *,
    scale: typing.SupportsFloat | typing.SupportsIndex = 127.5,
    shift: typing.SupportsFloat | typing.SupportsIndex = 127.5,
) -> typing.Any:
    """
    Colours (N, H, W, 3) float32 of `planes` (N, 3, H, W): value * scale + shift in float32, clamped to 0..255;
    NaN stays.
    """

def cut_into(
    map: DeviceTensor,
    inside: numpy.typing.ArrayLike,
    opacity: numpy.typing.ArrayLike,
    top: typing.SupportsInt | typing.SupportsIndex,
    left: typing.SupportsInt | typing.SupportsIndex,
) -> typing.Any:
    """
    `opacity` float32 (h, w) where `inside` (h, w) is more than 0.5, else 0; there `map`, a DeviceTensor uint8
    (H, W), becomes 1.
    """

def distance(mask: numpy.typing.ArrayLike, radius: typing.SupportsIndex) -> typing.Any:
    """
    Distance in pixels, float32 (H, W), from every pixel of `mask` (H, W), bool or uint8 with sides up to 16384, to
    the nearest one that is set: exact up to `radius`, more beyond, at most 2 (radius + 1). An array on a device
    gives a DeviceTensor, here and below. Raises InputError.
    """

def draw_depth(
    meshes: collections.abc.Sequence[tuple[numpy.typing.ArrayLike, numpy.typing.ArrayLike]],
    *,
    intrinsics: numpy.typing.ArrayLike,
    size: collections.abc.Iterable[typing.SupportsIndex],
    device: Device | None = None,
) -> typing.Any:
    """
    Depth uint8 (H, W) of hands from far to near, [(vertices (V, 3), faces (F, 3)), ...] on the CPU, under cameras
    `intrinsics` (N, 4): each is drawn by rasterize() without its back faces, and all become hand_depth()'s, rounded.
    With a `device` it is done there. Raises InputError for what rasterize() refuses.
    """

def draw_hands(
    below: numpy.typing.ArrayLike | None,
    size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    joints: numpy.typing.ArrayLike,
    depth: numpy.typing.ArrayLike | None,
    *,
    lines: bool,
    joint_radius: typing.SupportsIndex,
    half_widths: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    joint_colours: numpy.typing.ArrayLike,
    limb_colours: numpy.typing.ArrayLike,
    threads: typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    Hands drawn on copies of `below` uint8 (N, H, W, 3), or if it is None on black pictures of `size` (H, W):
    joints float64 (N, 21, 2) in pixels, depth float64 (N, 21) or None; see hoirt.render.draw.draw_hand.
    """

def grow(mask: numpy.typing.ArrayLike, radius: typing.SupportsIndex) -> typing.Any:
    """
    `mask` (H, W), bool or uint8, dilated by a disc of `radius` pixels, bool.
    """

def hand_depth(
    depth: numpy.typing.ArrayLike,
    instances: numpy.typing.ArrayLike | None,
    *,
    farthest: typing.SupportsIndex,
    nearest_integer: bool,
    threads: typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    uint8 (N, H, W) of depth float32 (N, H, W) with instances int32 (N, H, W), or of depth (N, M, H, W),
    hands from far to near, with None; see hoirt.render.encode.hand_depth.
    """

def lay_into(
    map: DeviceTensor,
    part: numpy.typing.ArrayLike,
    top: typing.SupportsInt | typing.SupportsIndex,
    left: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Lays what is not 0 of `part` uint8 (h, w) over `map`, a DeviceTensor uint8 (H, W).
    """

def look_up_into(
    map: DeviceTensor,
    region: numpy.typing.ArrayLike,
    crop: typing.Annotated[
        collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"
    ],
    window: typing.Annotated[
        collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"
    ],
) -> None:
    """
    Sets the pixels of `map`, a DeviceTensor uint8 (H, W) over `window`, that see more than 0.5 in `region` float32
    (h, w) over `crop`; both are left, top, width, height in pixels of a picture.
    """

def match_colours(
    colours: numpy.typing.ArrayLike, original: numpy.typing.ArrayLike, hole: numpy.typing.ArrayLike
) -> typing.Any:
    """
    Decoded `colours` (H, W, 3) float32 0..255 with the shift that the pixels outside of the `hole` (H, W) show
    against the `original` (H, W, 3) uint8 taken out everywhere. The difference is averaged over cells of 4 x 4
    pixels and continued into the hole from its rim, through a pyramid, so that the nearest kept pixels count
    most. Without a kept pixel nothing is changed.
    """

def normalise(
    pixels: numpy.typing.ArrayLike,
    holes: numpy.typing.ArrayLike | None = None,
    *,
    channels: typing.SupportsInt | typing.SupportsIndex = 3,
    divisor: typing.SupportsFloat | typing.SupportsIndex = 127.5,
    offset: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
) -> typing.Any:
    """
    Planes (N, `channels`, H, W) of `pixels` (N, H, W, C) uint8: pixel / divisor - offset in float32, times 0 where
    `holes` (N, H, W) is set; a single channel is repeated. `dtype` is float32, float16 or bfloat16.
    """

def open_backend(path: str) -> Backend:
    """
    The backend in the shared object `path`. Raises BackendError with the loader's reason.
    """

def open_device(name: str, path: str = "") -> Device:
    """
    The device "cpu" or "cuda:N"; `path` is the shared object of CUDA devices, by default the one of this
    installation. hoirt.backends.devices opens each device once. Raises InputError or BackendError.
    """

def pad_edge(
    array: numpy.typing.ArrayLike,
    size: collections.abc.Iterable[typing.SupportsIndex],
    top: typing.SupportsInt | typing.SupportsIndex,
    left: typing.SupportsInt | typing.SupportsIndex,
) -> typing.Any:
    """
    `array` (H, W, C) uint8 in a frame of `size` (h, w), its corner at row `top`, column `left`, its edge pixels
    repeated outward.
    """

def paste(
    picture: numpy.typing.ArrayLike,
    patch: numpy.typing.ArrayLike,
    alpha: numpy.typing.ArrayLike,
    top: typing.SupportsInt | typing.SupportsIndex,
    left: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    A copy of `picture` (H, W, 3) uint8 with `patch` (h, w, 3) float32, 0..255, blended in by `alpha` (h, w)
    float32, 0..1: round(alpha * patch + (1 - alpha) * picture), ties to even, clamped to 0..255. The patch's
    corner lies at row `top`, column `left`; what hangs over the border is cut. Pixels with alpha 0 keep
    their bits. Raises InputError for wrong shapes, dtypes, NaN or alpha outside 0..1.
    """

def paste_into(
    picture: DeviceTensor,
    patch: numpy.typing.ArrayLike,
    alpha: numpy.typing.ArrayLike,
    top: typing.SupportsInt | typing.SupportsIndex,
    left: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    paste() in place, on a DeviceTensor (H, W, 3) uint8. The values of patch and alpha are not checked.
    """

def philox4x32(
    counter: collections.abc.Iterable[typing.SupportsIndex],
    key: collections.abc.Iterable[typing.SupportsIndex],
) -> tuple[int, int, int, int]:
    """
    The four 32-bit words of Philox 4x32-10 for a counter of four words and a key of two.
    """

def philox_normal(
    seed: typing.SupportsIndex,
    stream: typing.SupportsIndex,
    shape: collections.abc.Iterable[typing.SupportsIndex],
) -> numpy.typing.NDArray[numpy.float32]:
    """
    float32 standard normals of `shape`: Philox 4x32-10 keyed by `seed` (64 bits) with the 32-bit number
    `stream` in its counter, then Box-Muller in float32, to 5e-7 of each one's size. Element i is the
    same for every shape and device.
    """

def pose_body(
    rest: numpy.typing.ArrayLike,
    shape_directions: numpy.typing.ArrayLike,
    pose_directions: numpy.typing.ArrayLike,
    joints: numpy.typing.ArrayLike,
    joint_directions: numpy.typing.ArrayLike,
    weights: numpy.typing.ArrayLike,
    parents: numpy.typing.ArrayLike,
    rotations: numpy.typing.ArrayLike,
    shape: numpy.typing.ArrayLike,
    *,
    threads: typing.SupportsIndex = 0,
) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
    """
    Shape and pose blend shapes and skinning of B items in one call: posed vertices (B, V, 3) and joints
    (B, J, 3), float32 metres. `rest` (V, 3), `shape_directions` (S, V, 3), `pose_directions` (P, V, 3)
    with P = 0 or 9 (J - 1), `joints` (J, 3) and `joint_directions` (S, J, 3), `weights` (V, J), `parents`
    (J,), `rotations` (B, J, 3, 3), `shape` (B, S), or (1, S) for all. Dtypes, threads and errors are
    those of `skin`.
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
) -> dict[str, numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]]:
    """
    Draws N frames of a mesh: `vertices` (N, V, 3) or (V, 3) float32 or float64, metres in the world, with `faces`
    (F, 3) int32 or int64, seen by pinhole cameras with `intrinsics` (4,) or (N, 4), fx fy cx cy in pixels, and
    `extrinsics` (4, 4), (3, 4), (N, 4, 4) or (N, 3, 4), world to camera (default: the world is the camera's,
    OpenCV axes), in pictures of `size` (H, W), 1..8192. One frame of either serves all frames of the other.
    Pixel (column j, row i) is sampled at (j + 0.5, i + 0.5). Nothing nearer than `near` metres is drawn, and with
    `cull_back_faces` no face whose vertices run clockwise in the picture. `instances` (F,) int32 >= 0 is
    the mesh or part of each face (default 0). `threads`: 0 is one per processor; the bits never depend on it.

    Returns what `outputs` names: "depth" float32 (N, H, W) metres along z, 0 where empty; "instances" and
    "faces" int32 (N, H, W), -1 where empty; "barycentrics" float32 (N, H, W, 3), perspective-correct weights of
    the face's vertices; "normals" float32 (N, H, W, 3), the face's unit normal in camera space, turned towards the
    camera; "silhouette" bool (N, H, W). Of equally near faces the first one shows. Raises InputError for wrong
    shapes, dtypes and ranges, faces that name no vertex, and vertices that are not finite or beyond 1e30 m.
    """

def resize(
    array: numpy.typing.ArrayLike,
    size: collections.abc.Iterable[typing.SupportsIndex],
    *,
    box: typing.Annotated[
        collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], "FixedSize(4)"
    ]
    | None = None,
    filter: str = "bilinear",
) -> typing.Any:
    """
    `array` (H, W) or (H, W, C), uint8 or float32, resampled to `size` (h, w) with the bits of Pillow's resize,
    along x and then along y: antialiased "bilinear" or "bicubic", or the "nearest" pixel. `box` = (x0, y0, x1, y1) in source pixels
    selects what fills `size`. An array on a device gives a DeviceTensor. Raises InputError.
    """

def sample_posterior(
    mean: numpy.typing.ArrayLike,
    logvar: numpy.typing.ArrayLike | None = None,
    noise: numpy.typing.ArrayLike | None = None,
    *,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    divisor: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> typing.Any:
    """
    (mean + exp(logvar / 2) noise) scale / divisor in float32; the mean alone where there is no noise.
    """

def skin(
    rest: numpy.typing.ArrayLike,
    joints: numpy.typing.ArrayLike,
    rotations: numpy.typing.ArrayLike,
    weights: numpy.typing.ArrayLike,
    parents: numpy.typing.ArrayLike,
    threads: typing.SupportsIndex = 0,
) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
    """
    Linear blend skinning: posed vertices (B, V, 3) and joints (B, J, 3), float32 metres, from shaped
    vertices `rest` (B, V, 3), shaped `joints` (B, J, 3), `rotations` (B, J, 3, 3) relative to the parent,
    `weights` (V, J) and `parents` (J,), -1 for the root. float32, or float64 that is rounded to it.
    `threads` 0 takes all cores; the bits do not depend on it. Raises InputError for wrong shapes, dtypes
    and NaN.
    """

def soften(
    mask: numpy.typing.ArrayLike, width: typing.SupportsFloat | typing.SupportsIndex, *, fade_at_border: bool
) -> typing.Any:
    """
    Opacity float32 (H, W) of `mask`: 0 outside, rising smoothly over `width` pixels inside; with a width below 1 it
    is 0 or 1. `fade_at_border`: what lies beyond the array is outside.
    """

def touched(mask: numpy.typing.ArrayLike, factor: typing.SupportsInt | typing.SupportsIndex) -> typing.Any:
    """
    float32 (N, 1, H / factor, W / factor): 1 where any pixel of a cell of `mask` (N, H, W) is set.
    """

__version__: str = "0.1.0"
