#!/bin/sh
# The device tests under NVIDIA's compute-sanitizer; needs a CUDA device and an installed hoirt with the CUDA module.
# usage: tools/sanitize_cuda.sh [memcheck|racecheck|initcheck|synccheck ...]     default: all four
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || {
  echo 'compute-sanitizer is neither in PATH nor in /usr/local/cuda/bin' >&2
  exit 1
}
"$python" -c 'from hoirt.backends.devices import open_device; print(open_device("cuda"))'
[ $# -gt 0 ] || set -- memcheck racecheck initcheck synccheck
tests=$(sed '/^#/d; s|^|tests/|' tests/device_tests.txt)
for tool in "$@"; do
  echo "== $tool"
  # PyTorch reuses memory that the tools then cannot tell from its neighbours.
  # shellcheck disable=SC2086
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 1 --target-processes all \
    "$python" -m pytest -q -k 'cuda' $tests
done
