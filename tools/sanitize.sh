#!/bin/sh
# The C++ tests, and the device tests on a GPU that the CPU plays, under AddressSanitizer and UndefinedBehaviorSanitizer.
# Needs an installed hoirt with what its tests need; the played GPU needs CUDA's headers, that is nvcc, but no GPU.
# usage: tools/sanitize.sh [build folder]
set -eu
cd "$(dirname "$0")/.."
build=$(realpath -m "${1:-build/sanitize}")
python=${PYTHON:-python3}
mkdir -p "$build"
cmake -S . -B "$build" -DHOIRT_SANITIZE=ON -DHOIRT_TESTS=ON -DHOIRT_PYTHON=ON -DHOIRT_OPENVINO=OFF \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPython_EXECUTABLE="$(command -v "$python")" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >"$build/configure.log" 2>&1 || {
  cat "$build/configure.log"
  exit 1
}
cmake --build "$build" --target hoirt_checks -- --quiet
ctest --test-dir "$build" --output-on-failure

if [ ! -d "$build/played" ]; then
  echo 'skipped: no nvcc, so no GPU can be played here'
  exit 0
fi
# What Python keeps until it ends is no leak, and its own extensions are not instrumented. The sanitizers write to the
# process' own output, which pytest must leave alone.
tests=$(sed '/^#/d; s|^|tests/|' tests/device_tests.txt)
# shellcheck disable=SC2086
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:allocator_may_return_null=1 \
  HOIRT_PLAYED_CUDA="$build/played" "$python" -m pytest -q --capture=sys -k cuda \
  --numprocesses auto --maxprocesses 4 --dist loadfile \
  $tests tests/test_device_arrays.py tests/test_repair_cuda.py tests/test_repair_packs_cuda.py \
  tests/test_failures_cuda.py tests/test_memory_cuda.py tests/test_stress_cuda.py
