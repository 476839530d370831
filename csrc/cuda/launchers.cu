// CUDA launches: one thread per Philox block or pixel, in grid-stride loops.
#include "csrc/cuda/launchers.h"

#include "csrc/cuda/launch.cuh"

namespace hoirt::cuda {
namespace {

// Flat index -> the functor's own indices.
struct FillBody {
  kernels::PhiloxFill fill;
  __device__ void at(std::int64_t i) const { fill(i); }
};
struct PasteBody {
  kernels::Paste paste;
  __device__ void at(std::int64_t i) const { paste(i / paste.patch_width, i % paste.patch_width); }
};

}  // namespace

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
