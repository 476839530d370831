// CUDA errors as hoirt's own, and streams as CUDA's.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "engine/error.h"

namespace hoirt::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next launch must not report it again
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(std::string("CUDA: ") + what);
  throw BackendError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

inline cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace hoirt::cuda
