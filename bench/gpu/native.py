"""Builds hoirt's native modules from the checkout into python/hoirt, without installing anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "hoirt"


def is_built() -> bool:
    """Whether the checkout holds the native core."""
    return any(PACKAGE.glob("_core.*.so"))


def build(folder: Path, *, cuda: bool) -> str:
    """Configures and builds with CMake, and puts the modules beside the Python files.

    Returns "" or why it failed (the end of the log).
    """
    try:
        import pybind11
    except ImportError as error:
        return str(error)
    folder.mkdir(parents=True, exist_ok=True)
    configure = [
        *("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
        *("-DHOIRT_OPENVINO=OFF", "-DHOIRT_PYTHON=ON", f"-DHOIRT_CUDA={'ON' if cuda else 'OFF'}"),
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]
    if cuda and "CUDAARCHS" not in os.environ and (own := _architecture()):
        configure.append(f"-DCMAKE_CUDA_ARCHITECTURES={own}-real")  # this GPU alone: a fifth of the time
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # cmake and ninja of a venv
    )
    targets = ["_core", *(["_core_cuda"] if cuda else [])]
    for command in (configure, ["cmake", "--build", str(folder), "--target", *targets]):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
            )
        except OSError as error:
            return f"{command[0]}: {error}"
        if done.returncode:
            return f"{' '.join(command[:2])} failed: {(done.stdout + done.stderr)[-1500:]}"
    for module in folder.glob("_core*.so"):
        made = PACKAGE / f".{module.name}.{os.getpid()}"
        shutil.copy2(module, made)
        made.replace(PACKAGE / module.name)
    return ""


def _architecture() -> str:
    """The GPU's compute capability as CMake writes it, such as "90"; "" without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return ""
    return "{}{}".format(*torch.cuda.get_device_capability())
