"""Packages and torch share one C++ library, also where a compiler gives a package its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
#include <regex>
extern "C" int matches() { return std::regex_match("cuda:0", std::regex("([a-z]+)(?::([0-9]+))?")); }
"""
PROGRAM = """
import ctypes, sys, torch
from hoirt.backends.aoti.runtime import share_cpp_library
share_cpp_library()
assert ctypes.CDLL(sys.argv[1]).matches() == 1
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to link with")
def test_a_package_with_a_library_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "package.cpp").write_text(SOURCE)
    package = tmp_path / "package.so"
    flags = ["-std=c++17", "-shared", "-fPIC", "-static-libstdc++", "-o", str(package)]
    linked = subprocess.run(
        ["g++", *flags, str(tmp_path / "package.cpp")], capture_output=True, text=True, check=False
    )
    if linked.returncode:
        pytest.skip(f"g++ has no static C++ library: {linked.stderr[:200]}")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(package)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
