#!/bin/sh
# Compiles the CUDA kernels and their Python module without installing anything, and tests the device on a stand-in for
# the CUDA runtime; needs nvcc, no GPU.
# usage: tools/build_cuda.sh [build folder]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-"$root/build/cuda"}
mkdir -p "$build"
python=${PYTHON:-python3}
cmake -S "$root" -B "$build" -DHOIRT_CUDA=ON -DHOIRT_OPENVINO=OFF -DHOIRT_PYTHON=ON -DHOIRT_TESTS=ON \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >"$build/configure.log" 2>&1 || {
  cat "$build/configure.log"
  exit 1
}
cmake --build "$build" --target _core_cuda hoirt_cuda_tests
ctest --test-dir "$build" --output-on-failure -R '^cuda$'
