"""doctor(): what this installation can do, and why it cannot do the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from hoirt import backends, packs
from hoirt._version import __version__
from hoirt.backends import cache
from hoirt.backends.choice import choose
from hoirt.backends.devices import NOT_BUILT, open_device
from hoirt.errors import HoirtError

_LIBRARIES = ("numpy", "pillow", "openvino", "safetensors", "tokenizers", "tqdm")
_FEATURES = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)


def doctor() -> dict[str, Any]:
    """A plain dict, fit for JSON, that never raises for a broken part but names the reason.

    Keys: `hoirt`, `python`, `platform`, `libraries` (name -> version), `cpu` (`cores`, `features`), `core`
    (version or reason), `backends` (name -> version or reason), `precisions` (backend -> those that it
    runs on this processor, the fastest first), `automatic` (device -> the backend that "auto" takes there,
    with the reasons for what it passes over), `cuda`, `cache` (`folder`, `writable`, and in MiB `size_mib` of
    the blobs and `free_mib` of their disk), `packs` (name -> "ok" or reason), `healthy`: whether refine()
    with the bundled pack can work here.
    """
    report: dict[str, Any] = {
        "hoirt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "cpu": {"cores": os.cpu_count(), "features": _cpu_features()},
        "core": _core(),
        "backends": _backends(),
        "precisions": _precisions(),
        "automatic": {device: _automatic(device) for device in ("cpu", "cuda")},
        "cuda": _cuda(),
        "cache": _cache(),
        "packs": _packs(),
    }
    report["healthy"] = (
        not report["core"].startswith("unavailable")
        and not report["automatic"]["cpu"].startswith("none")
        and bool(report["packs"])
        and all(text.startswith("ok") for text in report["packs"].values())
    )
    return report


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    present = set(line.split())
    return [name for name in _FEATURES if name in present]


def _core() -> str:
    try:
        from hoirt import _core as core
    except ImportError as error:
        return f"unavailable: {error}"
    return str(core.__version__)


def _backends() -> dict[str, str]:
    try:
        return dict(backends.available())
    except ImportError as error:
        return {"native": f"unavailable: {error}"}


def _precisions() -> dict[str, list[str]]:
    works = [name for name, text in _backends().items() if not text.startswith("unavailable")]
    loaded = [backends.load(name) for name in works]
    return {backend.name: backend.precisions() for backend in loaded if "cpu" in backend.devices}


def _automatic(device: str) -> str:
    try:
        choice = choose(device)
    except (ImportError, HoirtError) as error:
        return "none: " + "; ".join(str(error).splitlines())
    passed = "".join(f"; {reason}" for reason in choice.reasons.values())
    return f"{choice.backend.name}{passed}"


def _cuda() -> str:
    """Of the CUDA kernels: each device by name, or why it cannot be used."""
    try:
        from hoirt import _core_cuda
    except ImportError as error:
        if importlib.util.find_spec("hoirt._core_cuda") is None:
            return f"unavailable: {NOT_BUILT}"
        return f"unavailable: {error}"
    try:
        count = _core_cuda.device_count()
    except HoirtError as error:
        return f"kernels built, no device: {error}"
    devices = "; ".join(_cuda_device(f"cuda:{index}") for index in range(count))
    return f"kernels built, {count} device{'' if count == 1 else 's'}" + (f": {devices}" if devices else "")


def _cuda_device(name: str) -> str:
    try:
        return f"{name} {open_device(name).name}"
    except HoirtError as error:
        return f"{name} cannot be used: {error}"


def _cache() -> dict[str, Any]:
    folder = cache.folder()
    if folder is None:
        return {"folder": None, "writable": False}
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    size, free = (count // 2**20 for count in cache.usage())
    return {
        "folder": str(folder),
        "writable": os.access(nearest, os.W_OK),
        "size_mib": size,
        "free_mib": free,
    }


def _packs() -> dict[str, str]:
    report = {}
    for name, folder in packs.list_packs().items():
        try:
            pack = packs.open_pack(folder)
            pack.verify(full=True)
            report[name] = f"ok, version {pack.manifest.version}"
        except HoirtError as error:
            report[name] = f"damaged: {error}"
    return report
