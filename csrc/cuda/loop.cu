// CUDA launches of what the loop does around networks and guided steps: rows, inputs, copies, checks.
#include <algorithm>

#include "csrc/cuda/clock.cuh"
#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/launchers.h"

namespace hoirt::cuda {
namespace {

__global__ void select_kernel(const kernels::SelectRow select) {
  *select.current = select.rows[select.index];
  stamp(select.times, *select.current, kernels::step_begins);
}

__global__ void feed_kernel(const kernels::FeedStep feed) {
  if (threadIdx.x == 0) stamp(feed.times, *feed.row, kernels::network_begins);
  for (std::int64_t i = threadIdx.x; i < feed.size(); i += blockDim.x) feed(i);
}

template <int bytes>
__global__ void copy_kernel(const kernels::CopyItems copy) {
  const std::int64_t pieces = copy.pieces(bytes), stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t item = blockIdx.y; item < copy.items; item += gridDim.y) {
    for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < pieces; i += stride) {
      copy.template operator()<bytes>(item, i);
    }
  }
}

template <int bytes>
void launch_copy(const kernels::CopyItems& copy, void* stream) {
  const dim3 grid(static_cast<unsigned>(std::min(most_blocks, (copy.pieces(bytes) + threads - 1) / threads)),
                  static_cast<unsigned>(std::min(most_blocks, copy.items)));
  start(copy_kernel<bytes>, grid, threads, stream, "a copy could not be launched", copy);
}

struct BroadcastBody {
  kernels::Broadcast broadcast;
  __device__ void at(std::int64_t i) const { broadcast(i); }
};

struct WithinBody {
  const float* values;
  float low, high;
  std::int32_t* flag;
  std::int32_t fine, mark;
  __device__ void at(std::int64_t i) const {
    if (!(values[i] >= low && values[i] <= high) && *const_cast<volatile std::int32_t*>(flag) == fine) *flag = mark;
  }
};

}  // namespace

void select_row(const kernels::SelectRow& select, void* stream) {
  start(select_kernel, 1, 1, stream, "the row could not be selected", select);
}

void feed_step(const kernels::FeedStep& feed, void* stream) {
  start(feed_kernel, 1, threads, stream, "the network's inputs could not be written", feed);
}

void copy_items(const kernels::CopyItems& copy, void* stream) {
  if (copy.items <= 0 || copy.item_bytes <= 0) return;
  switch (copy.width()) {
    case 16:
      launch_copy<16>(copy, stream);
      break;
    case 8:
      launch_copy<8>(copy, stream);
      break;
    case 4:
      launch_copy<4>(copy, stream);
      break;
    case 2:
      launch_copy<2>(copy, stream);
      break;
    default:
      launch_copy<1>(copy, stream);
  }
}

void broadcast(const kernels::Broadcast& broadcast, void* stream) {
  launch(BroadcastBody{broadcast}, broadcast.size, stream, "a broadcast could not be launched");
}

void check_within(const float* values, std::int64_t count, float low, float high, std::int32_t* flag, std::int32_t fine,
                  std::int32_t mark, void* stream) {
  launch(WithinBody{values, low, high, flag, fine, mark}, count, stream, "a check could not be launched");
}

void check_kernels() {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, select_kernel), "the device runs none of the kernels that were built");
}

}  // namespace hoirt::cuda
