"""Runs a program with PyTorch's CUDA build on a GPU that the CPU plays, its own kernels doing nothing.

usage: python tools/played_torch.py [--build] -m MODULE [ARGUMENT ...]
       python tools/played_torch.py [--build] FILE [ARGUMENT ...]

Nothing that torch computes means anything, but all that torch's and hoirt's own code does on the host is
done: compiling (Triton's compiler runs), loading packages, streams, captures, memory, threads, errors.
hoirt's kernels are computed. It needs PyTorch for CUDA, g++, cmake, ninja, pybind11 and nvcc (for CUDA's
headers); --build makes `build/played_torch`, where the modules of hoirt are put together. At the end it says
what was done against CUDA's rules, and ends with 1 if that is anything.
"""

from __future__ import annotations

import ctypes
import os
import re
import runpy
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "played_torch"
LIBRARY = BUILD / "played_torch" / "libcuda.so.1"
SYMBOL = re.compile(r"\b((?:__cuda|cuda|cublas|cu)[A-Z]\w*)")
# Those are torch's and Triton's for other libraries, which are there and are not called.
OTHERS = re.compile(r"cuFile|cublasXt|cufft|cusolver|cusparse|curand")
# Triton's, which its compiled helper finds by name.
TRITON = (
    *("cuFuncSetAttribute", "cuFuncSetCacheConfig", "cuCtxSetCurrent", "cuModuleUnload"),
    *("cuTensorMapEncodeTiled", "cuOccupancyMaxActiveClusters", "cuCtxGetLimit", "cuCtxSetLimit"),
)
PRODUCT = re.compile(r"cublas\w*?(gemm|Gemm|gemv|trsm)")


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--build"]:
        build()
        arguments = arguments[1:]
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    if not LIBRARY.is_file():
        print("nothing is built; --build does it", file=sys.stderr)
        return 2
    if os.environ.get("LD_PRELOAD") != str(LIBRARY):  # begin again, before anything of CUDA is loaded
        os.execve(sys.executable, [sys.executable, __file__, *arguments], environment())
    return run(arguments)


def environment() -> dict[str, str]:
    """hoirt as it was built here, and the played libcuda before any other, for compilers too."""
    folder = str(LIBRARY.parent)
    paths = os.pathsep.join([str(BUILD / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {
        "LD_PRELOAD": str(LIBRARY),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")])),
        "LIBRARY_PATH": folder,
        "TRITON_LIBCUDA_PATH": folder,
        "PYTHONPATH": paths,
    }


def run(arguments: list[str]) -> int:
    """The program, in this process."""
    import torch
    from torch import _tensor_str

    # How many numbers of a tensor are worth printing is asked of kernels.
    _tensor_str._str = lambda self, **_: f"tensor({tuple(self.shape)}, {self.dtype})"
    assert torch.cuda.is_available()
    module = arguments[0] == "-m"
    sys.argv = arguments[module:]
    try:
        if module:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # what was done against the rules may be why
        traceback.print_exc()
        code = 1
    library = ctypes.CDLL(str(LIBRARY))
    library.hoirt_played_torch_faults.restype = ctypes.c_char_p
    faults = library.hoirt_played_torch_faults().decode().splitlines()
    for fault in sorted(set(faults)):
        print(f"against CUDA's rules: {fault}", file=sys.stderr)
    return code or int(bool(faults))


def build() -> None:
    """The played libraries, and a folder `site` that holds hoirt with the played GPU."""
    import pybind11
    import torch

    BUILD.mkdir(parents=True, exist_ok=True)
    stubs = BUILD / "stubs.cpp"
    stubs.write_text("\n".join(stub_lines(Path(torch.__file__).parent / "lib")), encoding="utf-8")
    configure = [
        *("cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(BUILD), "-DCMAKE_CUDA_ARCHITECTURES=90"),
        *("-DHOIRT_CUDA=ON", "-DHOIRT_OPENVINO=OFF", "-DHOIRT_PYTHON=ON", "-DHOIRT_TESTS=ON"),
        f"-DHOIRT_PLAYED_TORCH_STUBS={stubs}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        ["ninja", "-C", str(BUILD), "_core", "hoirt_played_cuda", "hoirt_played_torch"], check=True
    )
    site = BUILD / "site" / "hoirt"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(ROOT / "python" / "hoirt", site, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for module in (*BUILD.glob("_core.*.so"), *(BUILD / "played").glob("_core_cuda.*.so")):
        shutil.copy2(module, site)


def stub_lines(libraries: Path) -> Iterator[str]:
    """C++ that defines, weakly, all that torch's libraries want of CUDA; each does nothing and returns 0."""
    names = set(TRITON)
    for library in libraries.glob("lib*.so"):
        told = subprocess.run(
            ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
        )
        names |= set(SYMBOL.findall(told.stdout))
    yield 'extern "C" {'
    yield "int hoirt_played_product(void* handle);"
    for name in sorted(name for name in names if not OTHERS.match(name)):
        given, value = ("void* handle", "hoirt_played_product(handle)") if PRODUCT.match(name) else ("", "0")
        yield f"long {name}({given});"
        yield f"__attribute__((weak)) long {name}({given}) {{ return {value}; }}"
    yield "}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
