// CUDA launches of noise, one thread per Philox block; what the driver shows.
#include "csrc/cuda/launchers.h"

#include "csrc/cuda/launch.cuh"

namespace hoirt::cuda {
namespace {

// Flat index -> the functor's own indices.
struct FillBody {
  kernels::PhiloxFill fill;
  __device__ void at(std::int64_t i) const { fill(i); }
};

}  // namespace

void philox_normal(const kernels::PhiloxFill& fill, void* stream) {
  launch(FillBody{fill}, (fill.size + 3) / 4, stream, "the noise kernel could not be launched");
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
