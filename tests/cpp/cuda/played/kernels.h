// What nvcc knows of kernels, for the host's compiler, which includes this before each .cu file. The threads of a launch
// run one after another when its turn in the stream comes, every other launch from the last one to the first.
#pragma once

#define __DEVICE_LAUNCH_PARAMETERS_H__  // it declares the four below, as constants
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "tests/cpp/cuda/fake_runtime.h"

inline thread_local dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace hoirt::test {

// Whether the next launch goes from the last thread to the first: no result may depend on it.
bool next_is_reversed();

inline dim3 position(unsigned index, dim3 extent) {
  return {index % extent.x, index / extent.x % extent.y, index / extent.x / extent.y};
}

template <typename Body>
void for_each_thread(dim3 blocks, dim3 threads, const Body& body) {
  const bool reversed = next_is_reversed();
  const unsigned block_count = blocks.x * blocks.y * blocks.z, thread_count = threads.x * threads.y * threads.z;
  gridDim = blocks;
  blockDim = threads;
  for (unsigned b = 0; b < block_count; ++b) {
    blockIdx = position(reversed ? block_count - 1 - b : b, blocks);
    for (unsigned t = 0; t < thread_count; ++t) {
      threadIdx = position(reversed ? thread_count - 1 - t : t, threads);
      body();
    }
  }
}

}  // namespace hoirt::test

#undef __launch_bounds__
#define __launch_bounds__(...)

// Every device has these limits.
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  const dim3 blocks = shape->gridDim, threads = shape->blockDim;
  const bool fits = std::min({blocks.x, blocks.y, blocks.z, threads.x, threads.y, threads.z}) > 0 && blocks.y <= 65535 &&
                    blocks.z <= 65535 && threads.x * threads.y * threads.z <= 1024;
  if (!fits) return cudaErrorInvalidConfiguration;
  return hoirt::test::runtime::launch(shape->stream, [=, given = std::tuple<Parameters...>(arguments...)] {
    hoirt::test::for_each_thread(blocks, threads, [&] { std::apply(kernel, given); });
  });
}

template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel*) {
  return cudaSuccess;
}

// One thread runs at a time.
template <typename T>
T atomicMin(T* to, T value) {
  return std::exchange(*to, std::min(*to, value));
}
template <typename T>
T atomicMax(T* to, T value) {
  return std::exchange(*to, std::max(*to, value));
}
template <typename T>
T atomicAdd(T* to, T value) {
  return std::exchange(*to, *to + value);
}
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
