// CUDA launches of the guided step: one thread per 16 bytes of state where everything is aligned.
#include <algorithm>

#include "csrc/cuda/clock.cuh"
#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/launchers.h"

namespace hoirt::cuda {
namespace {

// Enough registers for three or four blocks at once on a multiprocessor: their loads hide behind each other.
template <typename T>
constexpr int blocks_at_once = sizeof(T) == sizeof(float) ? 4 : 3;

// What comes before a thread's first span, the row, which terms are neutral, addresses, is as many instructions as a span.
template <typename T, bool packed>
__global__ void __launch_bounds__(threads, blocks_at_once<T>) step_kernel(const kernels::GuidedStepOf<T> frame) {
  kernels::GuidedStepOf<T> step = frame;
  if (frame.row) step.take(*frame.row);
  const bool first = blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0;
  if (first) stamp(step.times, step, kernels::network_ends);
  const std::int64_t spans = step.spans(), stride = std::int64_t{gridDim.x} * blockDim.x;
  bool finite = true;
  for (std::int64_t item = blockIdx.y; item < step.items; item += gridDim.y) {
    for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < spans; i += stride) {
      finite &= step.template operator()<packed>(item, i);
    }
  }
  if (!finite && step.flag && *const_cast<volatile std::int32_t*>(step.flag) == kernels::nothing) *step.flag = step.index;
  if (first) stamp(step.times, step, kernels::step_ends);
}

template <typename T>
void launch_step(const kernels::GuidedStepOf<T>& step, void* stream) {
  const std::int64_t spans = step.spans();
  if (step.items <= 0 || spans <= 0) return;
  const dim3 grid(static_cast<unsigned>(blocks_for_spans(spans)),
                  static_cast<unsigned>(std::min(most_blocks, step.items)));
  start(step.packs() ? step_kernel<T, true> : step_kernel<T, false>, grid, threads, stream,
        "the guided step could not be launched", step);
}

}  // namespace

void guided_step(const kernels::GuidedStep& step, void* stream) { launch_step(step, stream); }
void guided_step(const kernels::GuidedStepOf<kernels::Half>& step, void* stream) { launch_step(step, stream); }
void guided_step(const kernels::GuidedStepOf<kernels::BFloat>& step, void* stream) { launch_step(step, stream); }

}  // namespace hoirt::cuda
