// Kernels of torch and its libraries, none of which is run: a stream comes to them, and that is all.
#pragma once

#include <cuda_runtime.h>

#include "tests/cpp/cuda/fake_runtime.h"

namespace hoirt::test::torch {

// What a handle of a library or the driver points to, if anything does.
struct Handle {
  cudaStream_t stream = nullptr;
};

inline cudaError_t launch_nothing(cudaStream_t stream) {
  return runtime::launch(stream, [] {});
}

}  // namespace hoirt::test::torch
