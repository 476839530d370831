// CUDA errors as hoirt's own.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "engine/error.h"

namespace hoirt::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(std::string("CUDA: ") + what);
  if (status != cudaSuccess) throw BackendError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

}  // namespace hoirt::cuda
