// CUDA launches of noise, a thread for up to four Philox blocks; what the driver shows.
#include "csrc/cuda/launchers.h"

#include "csrc/cuda/launch.cuh"

namespace hoirt::cuda {
namespace {

struct FillBody {
  kernels::PhiloxFill fill;
  __device__ void at(std::int64_t block) const { fill(block); }
};

}  // namespace

void philox_normal(const kernels::PhiloxFill& fill, void* stream) {
  const std::int64_t blocks = (fill.size + 3) / 4;
  if (blocks <= 0) return;
  // The keys of Philox' ten rounds are the same for all blocks of a thread.
  start(for_each<FillBody>, static_cast<unsigned>(blocks_for_spans(blocks)), threads, stream,
        "the noise kernel could not be launched", FillBody{fill}, blocks);
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
