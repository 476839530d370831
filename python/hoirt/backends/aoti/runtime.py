"""Runs packages on the caller's arrays and stream."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from hoirt.backends import idle
from hoirt.backends.aoti import store
from hoirt.backends.aoti.store import Package
from hoirt.backends.aoti.thread import close_in_torch_thread, in_torch_thread
from hoirt.backends.cuda_driver import SideStream
from hoirt.backends.devices import open_device
from hoirt.backends.interface import kind_of
from hoirt.backends.python_network import make_network
from hoirt.errors import BackendError, InputError, OutOfMemory

if TYPE_CHECKING:
    from hoirt._core import Network, Port

P = ParamSpec("P")
T = TypeVar("T")


def open_packages(folder: Path, packages: Sequence[Package], device: str, *, name: str) -> Network:
    """The network that runs whichever of `packages` fits the inputs. Raises BackendError."""
    runner = Runner(folder, packages, device, name)
    first = packages[0]
    ports = _ports(first.inputs), _ports(first.outputs)
    twins = {name for package in packages for name in package.twins}
    return make_network(*ports, runner, device=device, twins=sorted(twins))


def _ports(values: Sequence[store.Value]) -> list[Port]:
    """Ports of any extents: which ones are compiled the runner says, and what to do about others."""
    from hoirt import _core

    return [_core.Port(value.name, [-1] * len(value.shape), value.dtype) for value in values]


class Runner:
    """The function of a network; see python_network.Enqueue. Packages are loaded when they are first needed.

    On a GPU everything is enqueued by torch's thread, on the caller's stream. Memory comes from a pool of
    that stream: once a shape has run, another run of it allocates nothing, so that it may be captured, and
    what a captured graph uses is reused by later work on the same stream only. On the device's own stream,
    where nothing is captured, it comes from torch's cache, so that all networks share it.
    """

    _on_gpus: ClassVar[weakref.WeakSet[Runner]] = weakref.WeakSet()
    _shortages: ClassVar[dict[str, int]] = {}  # how often torch has had no memory, by device
    # By device and stream. torch has memory for each that cuBLAS has seen, until the last runner is closed.
    _sides: ClassVar[dict[tuple[str, int], SideStream]] = {}

    def __init__(self, folder: Path, packages: Sequence[Package], device: str, name: str) -> None:
        self._folder, self._packages, self._device, self._name = folder, packages, device, name
        self._loaded: dict[int, list[Any]] = {}
        self._users: dict[int, set[int]] = {}  # the streams on which a package ran; graphs there may hold it
        self._newest = 0  # the package that ran last
        self._lock = threading.Lock()  # a package is not reentrant
        self._pools: dict[int, Any] = {}
        if kind_of(device) == "cuda":
            self._own = open_device(device).stream()
            Runner._on_gpus.add(self)
            idle.keeps_runner(device, self)
        self._do(self._load, 0)

    def __call__(self, inputs: dict[str, Any], outputs: dict[str, Any], stream: int) -> dict[str, Any] | None:
        return self._do(self._enqueue, self._fitting(inputs), inputs, outputs, stream)

    def free_idle(self, streams: Collection[int]) -> None:
        """As in idle.Runner; also packages of other shapes than the last, and what torch keeps for nobody."""
        self._do(self._drop, streams)

    def _drop(self, streams: Collection[int]) -> None:
        import torch

        others = [number for number in self._loaded if number != self._newest]
        unused = [number for number in others if self._users.get(number, set()).issubset(streams)]
        if unused:
            torch.cuda.synchronize(self._device)  # they may be at work still, though nobody waits for it
        for number in unused:
            del self._loaded[number]  # read again when they are needed
            self._users.pop(number, None)
        for stream in streams:
            self._pools.pop(stream, None)
        torch.cuda.empty_cache()

    def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if kind_of(self._device) == "cuda":
            return in_torch_thread(work, *args, **kwargs)
        return work(*args, **kwargs)

    def _enqueue(
        self, number: int, inputs: dict[str, Any], outputs: dict[str, Any], stream: int
    ) -> dict[str, Any]:
        import torch

        with torch.inference_mode(), self._lock, self._on(stream), self._telling_shortage():
            try:
                values = {name: _tensor(array) for name, array in inputs.items()}
                self._run(number, values, stream)
                for name, array in outputs.items():
                    if array is not None:
                        _tensor(array).copy_(values[name])
                return {name: values[name].contiguous() for name, array in outputs.items() if array is None}
            except RuntimeError as error:
                raise BackendError(f"{self._name}: {error}") from error

    @contextlib.contextmanager
    def _telling_shortage(self, bytes: int = 0) -> Iterator[None]:
        """Makes OutOfMemory of an error that is one; packages say only that they failed.

        bytes: what one allocation asks of the system itself, for weights.
        """
        try:
            yield
        except (RuntimeError, BackendError) as error:
            if kind_of(self._device) == "cpu":
                raise
            _forget_last_error()
            if self._was_short(bytes):
                raise OutOfMemory(f"{self._device} has no memory left: {error}") from error
            raise

    def _was_short(self, bytes: int) -> bool:
        """Whether the device has less than that, or torch had no memory to give since this was last asked."""
        import torch

        try:
            free, _ = torch.cuda.mem_get_info(self._device)
            count = int(torch.cuda.memory_stats(self._device).get("num_ooms", 0))
        except RuntimeError:  # the device has failed
            return False
        before, Runner._shortages[self._device] = Runner._shortages.get(self._device, 0), count
        return count > before or free < bytes

    def __del__(self) -> None:
        if sys.is_finalizing():  # nothing can be imported any more, and all memory goes
            return
        if kind_of(getattr(self, "_device", "cpu")) == "cuda":
            Runner._on_gpus.discard(self)
            close_in_torch_thread(partial(_close, self._loaded, self._pools))

    def _fitting(self, inputs: Mapping[str, Any]) -> int:
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        for number, package in enumerate(self._packages):
            if package.fits(shapes):
                return number
        made = "; ".join(str({v.name: v.shape for v in package.inputs}) for package in self._packages)
        raise InputError(
            f"{self._name} is not compiled for inputs of the shapes {shapes}, but for {made} (-1: any); "
            "hoirt pack compile makes more with --size and --batch"
        )

    def _load(self, number: int) -> list[Any]:
        if number not in self._loaded:
            package = self._packages[number]
            paths = [store.check_file(self._folder, part) for part in package.parts]
            with self._telling_shortage(max(path.stat().st_size for path in paths)):
                self._loaded[number] = [_load(path, self._device) for path in paths]
        return self._loaded[number]

    def _run(self, number: int, values: dict[str, Any], stream: int) -> None:
        """Adds the outputs of all parts to `values`."""
        package, loaded = self._packages[number], self._load(number)
        self._users.setdefault(number, set()).add(stream)
        self._newest = number

        def run(i: int) -> None:
            part = package.parts[i]
            given = [values[name] for name in part.inputs]
            values.update(zip(part.outputs, loaded[i].run(given), strict=True))

        if package.streams == 2 and kind_of(self._device) == "cuda":
            import torch

            main = torch.cuda.current_stream()
            side = self._side(stream)
            side.wait_stream(main)
            with torch.cuda.stream(side):
                run(0)
            run(1)
            # The side stream's memory is used again by its next run only, which waits for this stream.
            main.wait_stream(side)
            run(2)
        else:
            for i in range(len(package.parts)):
                run(i)

    def _side(self, stream: int) -> Any:
        """The stream beside that one; not one of torch's, which are given to anyone, who may record them."""
        import torch

        key = self._device, stream
        if key not in Runner._sides:
            Runner._sides[key] = SideStream(int(self._device.partition(":")[2] or 0))
        return torch.cuda.ExternalStream(Runner._sides[key].handle, device=self._device)

    @contextlib.contextmanager
    def _on(self, stream: int) -> Iterator[None]:
        if kind_of(self._device) == "cpu":
            yield
            return
        import torch

        external = torch.cuda.ExternalStream(stream, device=self._device)
        pool: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if stream != self._own:
            if stream not in self._pools:
                self._pools[stream] = torch.cuda.MemPool()
            pool = torch.cuda.use_mem_pool(self._pools[stream], self._device)
        # cuDNN tries its algorithms when a shape runs first; fp32 is not to become TF32 behind one's back.
        cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.cuda.stream(external), pool, cudnn:
            yield


def _close(loaded: dict[int, list[Any]], pools: dict[int, Any]) -> None:
    """Gives memory back to the device, not to torch's cache."""
    import torch

    loaded.clear()
    pools.clear()
    if torch.cuda.is_initialized() and not Runner._on_gpus and not _graphs_of_torch():
        torch._C._cuda_clearCublasWorkspaces()
        for side in Runner._sides.values():
            side.close()
        Runner._sides.clear()
    torch.cuda.empty_cache()


def _graphs_of_torch() -> bool:
    """Whether the process holds CUDA graphs of torch's own, which may use the workspaces of cuBLAS."""
    import torch

    return any(issubclass(type(kept), torch.cuda.CUDAGraph) for kept in gc.get_objects())


def share_cpp_library() -> None:
    """Makes torch's C++ library the one that packages use too.

    Some compilers link a package with a library of its own. Both copies in one process share some of their
    variables, and parsing the device's name with a regular expression then crashes.
    """
    with contextlib.suppress(OSError):  # on a system that has no such file there is nothing to mix up
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)


def _forget_last_error() -> None:
    """torch's next call would tell it again where it was the package's own call to CUDA that failed."""
    with contextlib.suppress(AttributeError):  # where torch is built so that others do not see its runtime
        ctypes.CDLL(None).cudaGetLastError()


def _load(path: Path, device: str) -> Any:
    """The runner of one package, without its own synchronisation, which asks events that may be captured."""
    import torch

    kind, _, index = device.partition(":")
    share_cpp_library()
    try:
        model = torch._inductor.aoti_load_package(
            str(path), run_single_threaded=True, device_index=int(index) if kind == "cuda" else -1
        )
        return model.loader
    except (RuntimeError, OSError, ValueError, KeyError, AttributeError) as error:
        raise BackendError(f"{path}: torch cannot load this package: {error}") from error


def _tensor(array: Any) -> Any:
    """A torch tensor over a NumPy array or a DeviceTensor, without a copy; the packages only read inputs."""
    import torch

    tensor = torch.from_dlpack(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
