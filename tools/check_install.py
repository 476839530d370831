"""Checks an installed hoirt from outside of its checkout: complete, usable, and free of torch.

usage: python -I tools/check_install.py     (-I: neither this folder nor the current one is on the path)
"""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path


def main() -> None:
    import hoirt

    package = Path(hoirt.__file__).resolve().parent
    if Path(sys.prefix).resolve() not in package.parents:
        raise SystemExit(f"hoirt was imported from {package}, not from the environment {sys.prefix}")
    for library in ("torch", "diffusers", "transformers", "onnxruntime"):
        if importlib.util.find_spec(library) is not None:
            raise SystemExit(f"{library} is installed; hoirt must not need it")
    if metadata.version("hoirt") != hoirt.__version__:
        raise SystemExit(f"the wheel is {metadata.version('hoirt')}, the package {hoirt.__version__}")
    for name in hoirt.__all__:
        getattr(hoirt, name)
    if not (package / "py.typed").is_file():
        raise SystemExit("py.typed is missing")
    exporter = package.parent / "hoirt_export"
    if not (exporter / "building" / "run.py").is_file() or (exporter / "tiny" / "train").exists():
        raise SystemExit(f"{exporter} is not the exporter of `hoirt pack build`")
    report = hoirt.doctor()
    print(json.dumps(report, indent=1))
    if not report["healthy"]:
        raise SystemExit("doctor() reports that refine() cannot work here")
    loaded = sorted({"torch"} & set(sys.modules))
    if loaded:
        raise SystemExit(f"imported on the way: {loaded}")


if __name__ == "__main__":
    main()
