// LoopRequest: everything one run of the denoise loop is given, and its checks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/cancel.h"
#include "engine/device.h"
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
  Tensor clean;        // x0, float32, the state's shape, where the loop runs; valid during the callback only
  Stream* stream = nullptr;

  // A copy of x0 on the host.
  Tensor copy_clean() const;
};

// Tensors lie on the host or where the loop runs; those on a device are ready once the device's own stream gets there.
struct LoopRequest {
  Shape shape;                                        // the state: (N, C, ...)
  std::vector<std::uint64_t> seeds;                   // (N,)
  TensorMap condition;                                // per input (N, ...) or (1, ...)
  TensorMap uncondition;                              // the inputs that differ without the condition
  TensorMap per_step;                                 // per input, for step i: (S, ...) all items, (S, N, ...) each its own
  TensorMap per_step_uncondition;                     // the same for the inputs that differ without the condition
  std::vector<float> control;                         // (N,) strengths, or one for all
  std::optional<Tensor> initial, known, mask, noise;  // (N, C, ...); mask broadcasts, noise is (K, N, C, ...)
  std::function<bool(const StepInfo&)> on_step;       // after every step; false cancels
  std::function<void()> poll;                         // before every step; may throw
  std::shared_ptr<const CancelToken> cancel;
};

// Whether an input given per step has an axis of items, (S, N, ...): it then has one axis more than the network's input.
bool is_per_item(const Tensor& per_step, const Port& port);

// What must be true of the values of a tensor on a device, and what is wrong otherwise.
struct ValueCheck {
  Tensor tensor;  // float32
  float low = 0, high = 0;
  std::string wrong;
};

// Throws InputError for whatever does not fit the networks, the table, the state's shape or `place`, where the loop runs.
// `reuse` may be null. Returns what is left to check there, so that the host need not wait for it.
std::vector<ValueCheck> check(const LoopRequest& request, const StepTable& table, const Network& network,
                              const LoopPorts& ports, const Network* reuse, Place place);

// Throws InputError unless the network has the ports that the loop needs, as float32.
void check(const Network& network, const LoopPorts& ports);

// The kept features: the inputs of `reuse` that are outputs of `network`. Throws InputError if there are none, if `reuse`
// takes what `network` neither takes nor gives, or if it lacks the loop's ports.
std::vector<std::string> kept_features(const Network& network, const Network& reuse, const LoopPorts& ports);

}  // namespace hoirt
