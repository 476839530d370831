// CUDA launches: one thread per Philox block or pixel, in grid-stride loops.
#include "csrc/cuda/launchers.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "engine/error.h"

namespace hoirt::cuda {
namespace {

constexpr int threads = 256;
constexpr std::int64_t most_blocks = 65'535;

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw BackendError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

template <typename Body>
__global__ void for_each(Body body, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) body.at(i);
}

// Flat index -> the functor's own indices.
struct StepBody {
  kernels::GuidedStep step;
  __device__ void at(std::int64_t i) const { step(i / step.blocks(), i % step.blocks()); }
};
struct FillBody {
  kernels::PhiloxFill fill;
  __device__ void at(std::int64_t i) const { fill(i); }
};
struct PasteBody {
  kernels::Paste paste;
  __device__ void at(std::int64_t i) const { paste(i / paste.patch_width, i % paste.patch_width); }
};

template <typename Body>
void launch(const Body& body, std::int64_t count, void* stream, const char* what) {
  if (count <= 0) return;
  const auto grid = static_cast<unsigned>(std::min(most_blocks, (count + threads - 1) / threads));
  for_each<<<grid, threads, 0, static_cast<cudaStream_t>(stream)>>>(body, count);
  check(cudaGetLastError(), what);
}

}  // namespace

void guided_step(const kernels::GuidedStep& step, void* stream) {
  launch(StepBody{step}, step.items * step.blocks(), stream, "the guided step could not be launched");
}

void philox_normal(const kernels::PhiloxFill& fill, void* stream) {
  launch(FillBody{fill}, (fill.size + 3) / 4, stream, "the noise kernel could not be launched");
}

void paste(const kernels::Paste& kernel, void* stream) {
  launch(PasteBody{kernel}, kernel.patch_height * kernel.patch_width, stream, "the paste kernel could not be launched");
}

int device_count() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "no devices");
  return count;
}

std::string runtime_version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

}  // namespace hoirt::cuda
