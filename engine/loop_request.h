// LoopRequest: everything one run of the denoise loop is given, and its checks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/cancel.h"
#include "engine/network.h"
#include "engine/step_table.h"

namespace hoirt {

// The names under which the loop feeds the network and reads it; every other input is a condition, or given per step.
struct LoopPorts {
  std::string state = "sample";
  std::optional<std::string> timestep = "timestep";
  std::optional<std::string> control = "control_scale";
  std::string output = "prediction";
};

struct StepInfo {
  std::size_t step = 0;  // the row just done, from 0
  std::size_t steps = 0;
  double timestep = 0;
  double seconds = 0;  // of this step
  Tensor clean;        // x0, float32, the state's shape; valid during the callback only
};

struct LoopRequest {
  Shape shape;                                        // the state: (N, C, ...)
  std::vector<std::uint64_t> seeds;                   // (N,)
  TensorMap condition;                                // per input (N, ...) or (1, ...)
  TensorMap uncondition;                              // the inputs that differ without the condition
  TensorMap per_step;                                 // per input (S, ...): row i for every item of step i
  std::vector<float> control;                         // (N,) strengths, or one for all
  std::optional<Tensor> initial, known, mask, noise;  // (N, C, ...); mask broadcasts, noise is (K, N, C, ...)
  std::function<bool(const StepInfo&)> on_step;       // after every step; false cancels
  std::function<void()> poll;                         // before every step; may throw
  std::shared_ptr<const CancelToken> cancel;
};

// Throws InputError for whatever does not fit the network, the table or the state's shape.
void check(const LoopRequest& request, const StepTable& table, const Network& network, const LoopPorts& ports);

// Throws InputError unless the network has the ports that the loop needs, as float32.
void check(const Network& network, const LoopPorts& ports);

}  // namespace hoirt
