"""Packages on a GPU run in one thread, with torch.cuda played; what torch keeps goes with the last one."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_torch_cuda import FakeCuda
from hoirt import BackendError, OutOfMemory
from hoirt.backends.aoti import runtime, store, thread
from hoirt.backends.aoti.runtime import Runner
from hoirt.backends.aoti.thread import in_torch_thread

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Double:
    """A loaded package that doubles its input, and what happened to it."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.fails = False

    def run(self, given: list[torch.Tensor]) -> list[torch.Tensor]:
        self.threads.add(threading.current_thread().name)
        if self.fails:
            raise RuntimeError("CUDA error: no luck")
        return [2 * given[0]]


Make = Callable[[str], tuple[Runner, Double]]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(Runner, "_shortages", {})
    return FakeCuda(monkeypatch)


@pytest.fixture
def make(tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Runners of a package on a device of that name."""
    path = tmp_path / "double.pt2"
    path.write_bytes(b"package")
    value = store.Value("x", (-1, 3), "float32")
    result = store.Value("y", (-1, 3), "float32")
    package = store.Package("key", (value,), (result,), (store.part_of(path, ["x"], ["y"]),))

    def made(device: str) -> tuple[Runner, Double]:
        double = Double()

        def load(path: Path, device: str) -> Double:
            double.threads.add(threading.current_thread().name)
            return double

        monkeypatch.setattr(runtime, "_load", load)
        return Runner(tmp_path, [package], device, "double.onnx"), double

    return made


def test_all_work_on_a_gpu_is_done_by_one_thread(make: Make) -> None:
    runner, double = make("cuda:0")
    with ThreadPoolExecutor(4) as callers:
        for made in callers.map(lambda stream: runner({"x": X}, {"y": None}, stream), range(1, 9)):
            np.testing.assert_array_equal(made["y"], 2 * X)
    assert double.threads == {"hoirt-torch"}
    here, double = make("cpu")
    here({"x": X}, {"y": None}, 0)
    assert double.threads == {threading.current_thread().name}


def test_a_runner_is_closed_by_that_thread_when_nothing_else_is_under_way(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of torch's that goes while any is in use ends the process, whichever thread it goes in."""
    threads: list[str] = []
    begun, go_on = threading.Event(), threading.Event()
    runners = [make("cuda:0")[0]]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: threads.append(threading.current_thread().name))
    with ThreadPoolExecutor(2) as callers:
        busy = callers.submit(in_torch_thread, lambda: (begun.set(), go_on.wait(30)))
        begun.wait()
        closing = callers.submit(runners.clear)
        assert wait([closing], timeout=0.2).not_done and threads == []
        go_on.set()
        closing.result()
        assert threads == ["hoirt-torch"] and busy.result()


def test_a_finalizer_does_not_wait_for_ever(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may run where something is held that the thread waits for."""
    monkeypatch.setattr(thread, "PATIENCE", 0.05)
    closed, held = threading.Event(), threading.Lock()
    runners = [make("cuda:0")[0]]
    monkeypatch.setattr(torch.cuda, "empty_cache", closed.set)

    def need() -> None:
        with held:
            pass

    with ThreadPoolExecutor(1) as callers:
        with held:
            needing = callers.submit(in_torch_thread, need)
            runners.clear()
            assert not closed.is_set()
        needing.result()
    assert closed.wait(30)


def test_a_finalizer_in_that_thread_does_not_wait(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()
    runners = [make("cuda:0")[0]]
    monkeypatch.setattr(torch.cuda, "empty_cache", closed.set)
    in_torch_thread(runners.clear)
    assert closed.wait(30)


def test_a_lack_of_memory_is_told(make: Make, cuda: FakeCuda) -> None:
    runner, double = make("cuda:0")
    double.fails = True
    for found, expected in ((1, OutOfMemory), (1, BackendError), (2, OutOfMemory)):
        cuda.shortages = found
        with pytest.raises(expected, match=r"double\.onnx: CUDA error: no luck"):
            runner({"x": X}, {"y": None}, 1)


def test_a_device_that_failed_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, double = make("cuda:0")
    double.fails = True

    def fail(device: str) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    with pytest.raises(BackendError, match=r"double\.onnx: CUDA error: no luck"):
        runner({"x": X}, {"y": None}, 1)


def test_no_room_for_weights_is_told(make: Make, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = make("cuda:0")

    def fail(path: Path, device: str) -> Double:
        raise BackendError(f"{path}: torch cannot load this package")

    monkeypatch.setattr(runtime, "_load", fail)
    for free, expected in ((6, OutOfMemory), (7, BackendError)):  # b"package" has 7 bytes
        cuda.free = free
        with pytest.raises(expected, match="cannot load this package"):
            Runner(runner._folder, runner._packages, "cuda:0", "double.onnx")


def test_what_is_kept_for_idle_streams_goes(make: Make, cuda: FakeCuda) -> None:
    runner, _ = make("cuda:0")
    for stream in (1, 2):
        runner({"x": X}, {"y": None}, stream)
    runner.free_idle([2, 3])
    assert cuda.calls == ["pool", "pool", "cache emptied"]
    for stream in (1, 2):
        runner({"x": X}, {"y": None}, stream)
    assert cuda.calls == ["pool", "pool", "cache emptied", "pool"]


def test_packages_of_other_shapes_go_with_their_streams(
    make: Make, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph on a stream that is not idle may hold the weights; what ran last is wanted again at once."""
    one, _ = make("cuda:0")
    wide = dataclasses.replace(one._packages[0], inputs=(store.Value("x", (-1, 4), "float32"),))
    loads: list[Path] = []
    monkeypatch.setattr(runtime, "_load", lambda path, device: loads.append(path) or Double())
    runner = Runner(one._folder, [*one._packages, wide], "cuda:0", "double.onnx")
    narrow_x, wide_x = {"x": X}, {"x": np.ones((2, 4), np.float32)}
    for stream in (1, 2):
        runner(narrow_x, {"y": None}, stream)
    runner(wide_x, {"y": None}, 1)
    assert len(loads) == 2
    cuda.calls.clear()
    runner.free_idle([cuda.own, 1])
    assert set(runner._loaded) == {0, 1} and cuda.calls == ["cache emptied"]
    runner.free_idle([cuda.own, 1, 2])
    assert set(runner._loaded) == {1} and cuda.calls[1:] == ["cuda:0 waited for", "cache emptied"]
    np.testing.assert_array_equal(runner(narrow_x, {"y": None}, 1)["y"], 2 * X)
    assert len(loads) == 3
    runner.free_idle([cuda.own])
    assert set(runner._loaded) == {0, 1}
    runner.free_idle([cuda.own, 1])
    assert set(runner._loaded) == {0}


def test_networks_share_memory_where_nothing_is_captured(make: Make, cuda: FakeCuda) -> None:
    runner, _ = make("cuda:0")
    runner({"x": X}, {"y": None}, cuda.own)
    assert cuda.calls == []
    runner({"x": X}, {"y": None}, 1)
    assert cuda.calls == ["pool"]


def test_what_torch_raises_is_a_backend_error(make: Make) -> None:
    runner, double = make("cuda:0")
    double.fails = True
    with pytest.raises(BackendError, match=r"double\.onnx: CUDA error: no luck"):
        runner({"x": X}, {"y": None}, 1)
    double.fails = False
    target = np.empty_like(X)
    assert runner({"x": X}, {"y": target}, 1) == {}
    np.testing.assert_array_equal(target, 2 * X)


class Graph:
    """Stands for torch.cuda.CUDAGraph."""


def test_workspaces_go_with_the_last_runner(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # those of other tests
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cache"))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: calls.append("all"), raising=False)
    first, second, idle, on_cpu = (make(device)[0] for device in (*["cuda:0"] * 3, "cpu"))
    for runner in (first, second):
        runner({"x": X}, {"y": None}, 1)
    del runner, first
    assert calls == ["cache"]
    del second
    assert calls == ["cache", "cache"]
    del idle  # which never ran
    assert calls == ["cache", "cache", "all", "cache"]
    calls.clear()
    third = make("cuda:0")[0]
    third({"x": X}, {"y": None}, 1)
    kept = Graph()  # a caller's own, whose replays write into a workspace
    del third
    assert calls == ["cache"]
    del kept, on_cpu


def test_errors_come_back() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        in_torch_thread(fail)
    assert in_torch_thread(max, 2, 3) == 3


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_wait_ends_after_the_work() -> None:
    ended: list[bool] = []
    go_on = threading.Event()

    def work() -> None:
        interrupt()
        ended.append(go_on.wait(0.2))

    with pytest.raises(KeyboardInterrupt):
        in_torch_thread(work)
    assert ended == [False]


def test_work_that_has_not_begun_is_called_off() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[Any] = []

    def occupy() -> None:
        begun.set()
        go_on.wait(10)

    other = threading.Thread(target=in_torch_thread, args=(occupy,))
    other.start()
    begun.wait()
    threading.Timer(0.1, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        in_torch_thread(done.append, 1)
    go_on.set()
    other.join()
    in_torch_thread(done.append, 2)
    assert done == [2]
