// What every file of launches needs: grid-stride loops over functors, and launches whose errors are hoirt's.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "csrc/cuda/check.h"

namespace hoirt::cuda {

constexpr int threads = 256;
constexpr std::int64_t most_blocks = 65'535;

// Blocks for `count` spans, one for every `width` of them, beside `rows` others. What begins a thread's work is often as
// much as a span, so a thread takes up to four, as long as there are blocks enough for every multiprocessor to be full
// several times.
inline std::int64_t blocks_for_spans(std::int64_t count, int width = threads, std::int64_t rows = 1) {
  constexpr std::int64_t spans_of_thread = 4, enough_blocks = 4096;
  const std::int64_t single = (count + width - 1) / width, enough = (enough_blocks + rows - 1) / rows;
  return std::min(most_blocks, std::max(std::min(single, enough), single / spans_of_thread));
}

// Enqueues kernel(arguments...) on a grid of blocks of so many threads; throws BackendError with `what` if that fails.
template <typename... Parameters, typename... Arguments>
void start(void (*kernel)(Parameters...), dim3 grid, dim3 block, void* stream, const char* what,
           const Arguments&... arguments) {
  cudaLaunchConfig_t shape{};
  shape.gridDim = grid;
  shape.blockDim = block;
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

template <typename Body>
__global__ void for_each_row(Body body, std::int64_t rows, std::int64_t columns) {
  const std::int64_t down = std::int64_t{gridDim.y} * blockDim.y, across = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += down) {
    for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < columns; i += across) body.at(row, i);
  }
}

// Runs body.at(row, column) for all of them, where no thread has to divide.
template <typename Body>
void launch(const Body& body, std::int64_t rows, std::int64_t columns, void* stream, const char* what) {
  if (rows <= 0 || columns <= 0) return;
  const int height = rows < 8 ? 1 : 8, width = threads / height;
  const std::int64_t down = std::min(most_blocks, (rows + height - 1) / height);
  const dim3 grid(static_cast<unsigned>(blocks_for_spans(columns, width, down)), static_cast<unsigned>(down));
  start(for_each_row<Body>, grid, dim3(static_cast<unsigned>(width), static_cast<unsigned>(height)), stream, what, body, rows,
        columns);
}

}  // namespace hoirt::cuda
