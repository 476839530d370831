// What every file of launches needs: grid-stride loops over functors, and launches whose errors are hoirt's.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "csrc/cuda/check.h"

namespace hoirt::cuda {

constexpr int threads = 256;
constexpr std::int64_t most_blocks = 65'535;

// Blocks of threads for `count` spans of which each begins with work that a thread does once for all of its spans: a thread
// takes up to four, as long as there are blocks enough for every multiprocessor to be full several times.
inline std::int64_t blocks_for_spans(std::int64_t count) {
  constexpr std::int64_t spans_of_thread = 4, enough_blocks = 4096;
  const std::int64_t single = (count + threads - 1) / threads;  // with a span a thread
  return std::min(most_blocks, std::max(std::min(single, enough_blocks), single / spans_of_thread));
}

// Enqueues kernel(arguments...) on `blocks` of `width` threads; throws BackendError with `what` if it cannot be launched.
template <typename... Parameters, typename... Arguments>
void start(void (*kernel)(Parameters...), dim3 blocks, int width, void* stream, const char* what,
           const Arguments&... arguments) {
  cudaLaunchConfig_t shape{};
  shape.gridDim = blocks;
  shape.blockDim = dim3(static_cast<unsigned>(width));
  shape.stream = stream_of(stream);
  check(cudaLaunchKernelEx(&shape, kernel, arguments...), what);
}

template <typename Body>
__global__ void for_each(Body body, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) body.at(i);
}

// Runs body.at(i) for i in 0..count - 1, one thread each up to the largest grid.
template <typename Body>
void launch(const Body& body, std::int64_t count, void* stream, const char* what) {
  if (count <= 0) return;
  const auto grid = static_cast<unsigned>(std::min(most_blocks, (count + threads - 1) / threads));
  start(for_each<Body>, grid, threads, stream, what, body, count);
}

}  // namespace hoirt::cuda
