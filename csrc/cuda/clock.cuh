// The device's clock, for the times of steps.
#pragma once

#include <cstdint>

#include "csrc/kernels/step_row.h"

namespace hoirt::cuda {

// Nanoseconds; one clock for the whole device.
__device__ inline std::uint64_t now() {
  unsigned long long time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

__device__ inline void stamp(std::uint64_t* times, const kernels::StepRow& row, kernels::StepTime which) {
  if (times && row.index >= 0) times[std::int64_t{kernels::step_times} * row.index + which] = now();
}

}  // namespace hoirt::cuda
