// The host's clock in the place of the device's: this folder comes before csrc/ where the played GPU is built.
#pragma once

#include <chrono>
#include <cstdint>

#include "csrc/kernels/step_row.h"

namespace hoirt::cuda {

inline void stamp(std::uint64_t* times, const kernels::StepRow& row, kernels::StepTime which) {
  if (!times || row.index < 0) return;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  times[std::int64_t{kernels::step_times} * row.index + which] =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace hoirt::cuda
