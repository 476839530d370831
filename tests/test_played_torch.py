"""aoti with PyTorch's CUDA build on a GPU that the CPU plays: what is computed means nothing, but threads,
streams, recordings and memory are torch's and hoirt's own. `tools/played_torch.py` says how it is run.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import torch
from hoirt import OutOfMemory
from hoirt.backends.aoti.runtime import Runner
from hoirt.backends.devices import open_device
from hoirt.backends.idle import free_idle

PLAYED = torch.cuda.is_available() and torch.cuda.get_device_name() == "played by the CPU"
WORKSPACE = 1 << 22  # cuBLAS', at the least
pytestmark = pytest.mark.skipif(not PLAYED, reason="torch is not on a played GPU; tools/played_torch.py is")


@pytest.fixture(params=[1, 2])
def refiner(request: pytest.FixtureRequest, random_pack: Path) -> hoirt.Refiner:
    """Of packages that run on one stream, or on two."""
    from export.aoti.pack import Options, compile_pack

    compile_pack(random_pack, Options(device="cuda:0", precision="bf16", streams=request.param))
    torch._C._cuda_clearCublasWorkspaces()  # of the trials
    gc.collect()
    return hoirt.Refiner(random_pack, device="cuda", backend="aoti", precision="bf16")


def repair(refiner: hoirt.Refiner, side: int = 64) -> Any:
    """Where the networks find nothing, as nothing is computed: a told region."""
    mask = np.zeros((side, side), np.uint8)
    mask[16:48, 16:48] = 255
    return refiner(np.full((side, side, 3), 90, np.uint8), mask=mask, depth=mask // 2, region="frame")


def test_threads_share_the_networks(refiner: hoirt.Refiner) -> None:
    """Each begins with streams of its own, so that one records while others run for the first time."""
    results: list[str] = []

    def work() -> None:
        for _ in range(3):
            results.append(repair(refiner).status)

    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refiner.unload()
    assert results == ["refined"] * 36


def test_refiners_come_and_go(refiner: hoirt.Refiner, random_pack: Path) -> None:
    """While another runs; a pool of torch's that goes meanwhile would end the process."""
    results: list[str] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            results.append(repair(refiner).status)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for unload in (True, False) * 4:
            other = hoirt.Refiner(random_pack, device="cuda", backend="aoti", precision="bf16")
            assert repair(other).status == "refined"
            if unload:
                other.unload()
            del other
    finally:
        enough.set()
        thread.join()
    assert set(results) == {"refined"} and len(results) > 8


def held(refiner: hoirt.Refiner) -> int:
    """Bytes that torch holds once the refiner is closed."""
    refiner.unload()
    return torch.cuda.memory_allocated()


def test_attentions_that_cudnn_refuses() -> None:
    """Heads of 12 numbers. torch would follow a null pointer when it is asked again."""
    from export.aoti.attention import choose_attention

    class Attentions(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            attend = torch.nn.functional.scaled_dot_product_attention
            return attend(x, x, x) + attend(x, x, x, scale=0.2)

    given = torch.zeros(2, 2, 64, 12, dtype=torch.bfloat16, device="cuda:0")
    for _ in range(2):
        program = torch.export.export(Attentions(), (given,), strict=False)
        assert choose_attention(program, "cuda:0") == (0, 2)


def test_unload_leaves_nothing_to_torch(refiner: hoirt.Refiner) -> None:
    before = held(refiner)
    for again in range(2):
        taken = {repair(refiner).status: torch.cuda.memory_allocated() for _ in range(1 + 5 * again)}
        assert taken["refined"] > before + WORKSPACE
        assert held(refiner) == before


def test_repairs_take_no_more_memory_each_time(refiner: hoirt.Refiner) -> None:
    repair(refiner)
    first = torch.cuda.memory_allocated()
    for _ in range(5):
        repair(refiner)
    assert torch.cuda.memory_allocated() == first


def test_graphs_of_torchs_own_keep_their_workspace(refiner: hoirt.Refiner) -> None:
    before = held(refiner)
    x = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x @ x
    repair(refiner)
    assert held(refiner) > before + WORKSPACE
    del graph, x, y
    repair(refiner)
    assert held(refiner) == before


@contextlib.contextmanager
def limit(bytes: int) -> Iterator[None]:
    """The device has so many bytes more than are used, or kept by a pool, now."""
    library = ctypes.CDLL(None)
    library.hoirt_played_torch_limit(ctypes.c_size_t(bytes))
    try:
        yield
    finally:
        library.hoirt_played_torch_limit(ctypes.c_size_t(0))


def use_streams(refiner: hoirt.Refiner) -> None:
    """Several at once, so that something is kept for each."""
    threads = [threading.Thread(target=repair, args=[refiner]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_is_kept_for_idle_streams_goes(refiner: hoirt.Refiner) -> None:
    use_streams(refiner)
    before = torch.cuda.memory_reserved()
    free_idle(open_device("cuda:0"))
    assert torch.cuda.memory_reserved() < before
    assert repair(refiner).status == "refined"


def test_packages_of_other_sizes_go(refiner: hoirt.Refiner, random_pack: Path) -> None:
    from export.aoti.pack import Options, compile_pack

    roles = ("vae_encoder", "vae_decoder", "hint", "step")
    sized = Options(device="cuda:0", precision="bf16", size=(96, 96), roles=roles)
    compile_pack(random_pack, sized)
    refiner.unload()  # it knows the packages that there were
    gpu = open_device("cuda:0")

    def left(side: int) -> int:
        assert repair(refiner, side).status == "refined"
        free_idle(gpu)
        return gpu.memory()[0]

    left(64)
    first = left(96)
    assert repair(refiner, 64).status == "refined"
    assert max(len(runner._loaded) for runner in Runner._on_gpus) == 2
    free_idle(gpu)
    assert {len(runner._loaded) for runner in Runner._on_gpus} == {1}
    assert left(96) == first


def test_too_little_memory_for_packages(refiner: hoirt.Refiner) -> None:
    refiner.unload()
    torch.cuda.empty_cache()
    with limit(1), pytest.raises(OutOfMemory, match="cuda:0 has no memory left"):
        repair(refiner)
    assert repair(refiner).status == "refined"


def test_too_little_memory_while_packages_run(refiner: hoirt.Refiner) -> None:
    repair(refiner)
    free_idle(open_device("cuda:0"))
    with limit(1), pytest.raises(OutOfMemory, match="cuda:0"):
        repair(refiner)
    assert repair(refiner).status == "refined"


def test_a_call_that_finds_too_little_memory_begins_again(
    refiner: hoirt.Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, short = Runner._run, [2]

    def hungry(self: Runner, *args: Any) -> None:
        if short[0] > 0:
            short[0] -= 1
            torch.empty(1 << 40, device="cuda")
        run(self, *args)

    monkeypatch.setattr(Runner, "_run", hungry)
    with pytest.raises(OutOfMemory, match="cuda:0 has no memory left"):
        repair(refiner)
    short[0] = 1
    assert repair(refiner).status == "refined"


def test_waiting_for_the_device_ends_a_recording() -> None:
    """The rule that the others are about."""
    gc.collect()  # torch believes that it goes on, and no pool of its own may go then
    stream = open_device("cuda:0").stream()
    with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(capture_error_mode="relaxed")
        with pytest.raises(RuntimeError):
            torch.cuda.synchronize()
        with pytest.raises(RuntimeError):
            graph.capture_end()
    library = ctypes.CDLL(None)
    library.hoirt_played_torch_faults.restype = ctypes.c_char_p
    assert b"a wait for the device" in library.hoirt_played_torch_faults()
