// StepRow: what the kernels of one step read of its row, in the device's memory, so that one recorded graph serves all
// rows; and the small kernels around the network: select a row, feed the network its times and strengths.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// A stream's flag while all is well; kernels write what is wrong, once.
constexpr std::int32_t nothing = -1;

struct StepRow {
  double guidance = 1, A = 0, B = 0, C = 0, D = 0, E = 0, F = 0, G = 0, H = 0;
  double clip = 0;  // 0: off
  double timestep = 0, control = 1;
  std::int64_t noise_at = -1, known_noise_at = -1;     // where in the caller's noise n and n' begin; negative: Philox
  std::uint32_t noise_stream = 0, known_stream = 0;    // of Philox
  std::int32_t index = -1;                             // of the row; -1: the initial state
  bool known_region = false;                           // blends the known region
  bool copies = false;                                 // the next row runs the unconditional half
  bool keeps_clean = false;                            // x0 is wanted
};

// Where a step's times lie behind 4 index, in nanoseconds of the device's clock.
enum StepTime : int { step_begins, network_begins, network_ends, step_ends, step_times };

// The row `index` becomes the current one.
struct SelectRow {
  const StepRow* rows = nullptr;
  StepRow* current = nullptr;
  std::int64_t index = 0;
  std::uint64_t* times = nullptr;  // may be null
};

// The current row's timestep and control strengths as the network takes them.
struct FeedStep {
  const StepRow* row = nullptr;
  float* timestep = nullptr;  // (timesteps,), or null
  float* control = nullptr;   // (controls,), or null
  const float* strengths = nullptr;
  std::int64_t timesteps = 0, controls = 0, strength_count = 1;
  std::uint64_t* times = nullptr;  // may be null

  HOIRT_HD std::int64_t size() const { return timesteps > controls ? timesteps : controls; }
  HOIRT_HD void operator()(std::int64_t i) const {
    if (i < timesteps) timestep[i] = static_cast<float>(row->timestep);
    if (i < controls) control[i] = static_cast<float>(row->control * strengths[i % strength_count]);
  }
};

}  // namespace hoirt::kernels
