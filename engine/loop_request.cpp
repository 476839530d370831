// The checks of a run, all before the first step.
#include "engine/loop_request.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "csrc/cpu/launchers.h"

namespace hoirt {
namespace {

constexpr float largest = std::numeric_limits<float>::max();

// Where the loop runs, and the bounds that it has to check there.
struct Checks {
  Place place;
  std::vector<ValueCheck> later;
};

void check_place(const Tensor& tensor, const std::string& name, const Checks& checks) {
  if (!tensor.place().host() && tensor.place() != checks.place) {
    throw InputError(name + " must be on the CPU or on " + to_string(checks.place) + ", not on " +
                     to_string(tensor.place()));
  }
}

void check_finite(const Tensor& tensor, const std::string& name, Checks& checks) {
  if (tensor.dtype() != DType::f32) {
    throw InputError(name + " must hold float32, not " + to_string(tensor.dtype()));
  }
  check_place(tensor, name, checks);
  ValueCheck check{tensor, -largest, largest, name + " holds NaN or infinity"};
  if (!tensor.place().host()) checks.later.push_back(std::move(check));
  else if (!cpu::all_finite(tensor.data<float>(), tensor.size())) throw InputError(check.wrong);
}

void check_state(const Tensor& tensor, const Shape& shape, const std::string& name, Checks& checks) {
  if (tensor.shape() != shape) {
    throw InputError(name + " must have shape " + to_string(shape) + ", not " + to_string(tensor.shape()));
  }
  check_finite(tensor, name, checks);
}

void check_mask(const Tensor& mask, const Shape& shape, Checks& checks) {
  bool fits = mask.rank() == shape.size();
  for (std::size_t axis = 0; fits && axis < shape.size(); ++axis) {
    fits = mask.dim(axis) == 1 || mask.dim(axis) == shape[axis];
  }
  if (!fits) {
    throw InputError("mask must broadcast to the state's shape " + to_string(shape) + ", for example (N, 1, H, W); not " +
                     to_string(mask.shape()));
  }
  check_finite(mask, "mask", checks);
  if (mask.rank() > kernels::Broadcast::most_axes) {
    throw InputError("mask must have at most " + std::to_string(kernels::Broadcast::most_axes) + " axes");
  }
  ValueCheck check{mask, 0.0f, 1.0f, "mask must lie in 0..1 (1: regenerate)"};
  const std::span<const float> values(mask.data<float>(), mask.size());
  if (!mask.place().host()) checks.later.push_back(std::move(check));
  else if (!std::ranges::all_of(values, [](float m) { return m >= 0.0f && m <= 1.0f; })) throw InputError(check.wrong);
}

void check_known(const LoopRequest& request, const StepTable& table, Checks& checks) {
  if (request.known.has_value() != request.mask.has_value()) {
    throw InputError(request.known ? "known is given without a mask" : "mask is given without the known state");
  }
  if (table.uses_known() && !request.known) {
    throw InputError("the step table blends a known region: known and mask are needed");
  }
  if (!request.known) return;
  if (!table.uses_known()) {
    throw InputError("known and mask are given, but no row of the step table blends a known region");
  }
  check_state(*request.known, request.shape, "known", checks);
  check_mask(*request.mask, request.shape, checks);
}

void check_noise(const Tensor& noise, const LoopRequest& request, const StepTable& table, Checks& checks) {
  Shape wanted = request.shape;
  wanted.insert(wanted.begin(), static_cast<std::int64_t>(table.noise_streams()));
  if (noise.shape() != wanted) {
    throw InputError("noise must have shape " + to_string(wanted) + " (this step table draws " +
                     std::to_string(table.noise_streams()) + " times), not " + to_string(noise.shape()));
  }
  check_finite(noise, "noise", checks);
}

void check_batch(const Tensor& tensor, std::int64_t items, const std::string& name, Checks& checks) {
  if (tensor.rank() < 1 || (tensor.dim(0) != items && tensor.dim(0) != 1)) {
    throw InputError(name + " must have " + std::to_string(items) + " (or 1) items on its first axis, not shape " +
                     to_string(tensor.shape()));
  }
  check_place(tensor, name, checks);
  if (tensor.dtype() == DType::f32) check_finite(tensor, name, checks);
}

// The port must take the tensor once its first axis is `batch` long.
void check_port_batch(const Port& port, Shape shape, DType dtype, std::int64_t batch) {
  shape.at(0) = batch;
  check_port(port, Tensor::borrow(nullptr, std::move(shape), dtype, nullptr));
}

bool is_loop_port(const std::string& name, const LoopPorts& ports) {
  return name == ports.state || name == ports.timestep || name == ports.control;
}

void check_input_name(const std::string& name, const std::string& what, const Network& network, const LoopPorts& ports) {
  if (is_loop_port(name, ports)) throw InputError(what + " names '" + name + "', which the loop itself feeds");
  if (!find_port(network.inputs(), name)) {
    throw InputError(what + ": the network has no input '" + name + "'; it has " + port_names(network.inputs()));
  }
}

// One tensor of per_step or per_step_uncondition, called `what`.
void check_rows(const Tensor& tensor, const std::string& what, const Port& port, std::int64_t steps, std::int64_t items,
                Checks& checks) {
  if (tensor.rank() < 1 || tensor.dim(0) != steps) {
    throw InputError(what + " must have one row for each of the " + std::to_string(steps) + " steps, not shape " +
                     to_string(tensor.shape()));
  }
  const bool per_item = is_per_item(tensor, port);
  if (!per_item && tensor.rank() != port.shape.size()) {
    throw InputError(what + " must have " + std::to_string(port.shape.size()) + " axes (S, ...) or " +
                     std::to_string(port.shape.size() + 1) + " axes (S, N, ...), not shape " + to_string(tensor.shape()));
  }
  if (per_item && tensor.dim(1) != items && tensor.dim(1) != 1) {
    throw InputError(what + " must have " + std::to_string(items) + " (or 1) items on its second axis, not shape " +
                     to_string(tensor.shape()));
  }
  check_place(tensor, what, checks);
  if (tensor.dtype() == DType::f32) check_finite(tensor, what, checks);
}

// The shape of what the network is given of such a tensor, for `batch` items.
Shape batch_of_rows(const Tensor& tensor, const Port& port, std::int64_t batch) {
  Shape shape(tensor.shape().begin() + (is_per_item(tensor, port) ? 1 : 0), tensor.shape().end());
  shape.front() = batch;
  return shape;
}

void check_per_step(const LoopRequest& request, const StepTable& table, const Network& network, const LoopPorts& ports,
                    Checks& checks) {
  const auto steps = static_cast<std::int64_t>(table.rows.size());
  const std::int64_t items = request.shape.front();
  for (const auto& [name, tensor] : request.per_step) {
    check_input_name(name, "per_step", network, ports);
    if (request.condition.contains(name)) throw InputError("per_step names '" + name + "', and condition does too");
    check_rows(tensor, "per_step '" + name + "'", *find_port(network.inputs(), name), steps, items, checks);
  }
  for (const auto& [name, tensor] : request.per_step_uncondition) {
    const std::string what = "per_step_uncondition '" + name + "'";
    const auto with = request.per_step.find(name);
    if (with == request.per_step.end()) throw InputError("per_step_uncondition names '" + name + "', but per_step does not");
    const Port& port = *find_port(network.inputs(), name);
    check_rows(tensor, what, port, steps, items, checks);
    if (tensor.dtype() != with->second.dtype() ||
        batch_of_rows(tensor, port, items) != batch_of_rows(with->second, port, items)) {
      throw InputError(what + " must be like its per_step, " + to_string(with->second.dtype()) + " " +
                       to_string(with->second.shape()) + ", not " + to_string(tensor.dtype()) + " " +
                       to_string(tensor.shape()));
    }
  }
}

void check_conditions(const LoopRequest& request, const Network& network, const LoopPorts& ports, Checks& checks) {
  const std::int64_t items = request.shape.front();
  for (const TensorMap* map : {&request.condition, &request.uncondition}) {
    const std::string what = map == &request.condition ? "condition" : "uncondition";
    for (const auto& [name, tensor] : *map) {
      check_input_name(name, what, network, ports);
      check_batch(tensor, items, what + " '" + name + "'", checks);
    }
  }
  for (const auto& [name, tensor] : request.uncondition) {
    const auto with = request.condition.find(name);
    if (with == request.condition.end()) throw InputError("uncondition names '" + name + "', but condition does not");
    Shape a = tensor.shape(), b = with->second.shape();
    a.front() = b.front() = items;
    if (a != b || tensor.dtype() != with->second.dtype()) {
      throw InputError("uncondition '" + name + "' must be like its condition, " + to_string(with->second.dtype()) + " " +
                       to_string(with->second.shape()) + ", not " + to_string(tensor.dtype()) + " " +
                       to_string(tensor.shape()));
    }
  }
  for (const Port& port : network.inputs()) {
    const bool fed = is_loop_port(port.name, ports) || request.per_step.contains(port.name);
    if (!fed && !request.condition.contains(port.name)) {
      throw InputError("condition lacks '" + port.name + "', an input of the network");
    }
  }
}

// Static networks fix the batch: both sizes that the rows with or without `reuse` ask of theirs must pass.
void check_batches(const LoopRequest& request, const StepTable& table, const Network& network, const LoopPorts& ports,
                   bool reuse) {
  const auto some = [&](bool guided) {
    return std::ranges::any_of(table.rows, [&](const Row& row) { return row.reuse == reuse && row.guided() == guided; });
  };
  std::vector<std::int64_t> batches;
  if (some(true)) batches.push_back(2 * request.shape.front());
  if (some(false)) batches.push_back(request.shape.front());
  for (const std::int64_t batch : batches) {
    for (const Port& port : network.inputs()) {
      if (port.name == ports.state) {
        check_port_batch(port, request.shape, DType::f32, batch);
      } else if (is_loop_port(port.name, ports)) {
        check_port_batch(port, {batch}, DType::f32, batch);
      } else if (const auto rows = request.per_step.find(port.name); rows != request.per_step.end()) {
        check_port_batch(port, batch_of_rows(rows->second, port, batch), rows->second.dtype(), batch);
      } else if (const auto given = request.condition.find(port.name); given != request.condition.end()) {
        check_port_batch(port, given->second.shape(), given->second.dtype(), batch);
      }
    }
    check_port_batch(*find_port(network.outputs(), ports.output), request.shape, DType::f32, batch);
  }
}

void check_control(const LoopRequest& request, const StepTable& table, const LoopPorts& ports) {
  const auto items = static_cast<std::size_t>(request.shape.front());
  if (request.control.size() != 1 && request.control.size() != items) {
    throw InputError("control must be one number or one for each of the " + std::to_string(items) + " items, not " +
                     std::to_string(request.control.size()) + " numbers");
  }
  if (!std::ranges::all_of(request.control, [](float value) { return std::isfinite(value); })) {
    throw InputError("control holds NaN or infinity");
  }
  const bool scaled = std::ranges::any_of(request.control, [](float value) { return value != 1.0f; }) ||
                      std::ranges::any_of(table.rows, [](const Row& row) { return row.control != 1.0; });
  if (!ports.control && scaled) {
    throw InputError("control strengths other than 1 are asked for, but the loop was made without a control input");
  }
}

// "input" or "output" of that name, float32.
void require(const std::vector<Port>& all, const std::string& name, const std::string& what, const std::string& network) {
  const Port* port = find_port(all, name);
  if (!port) throw InputError("the " + network + " has no " + what + " '" + name + "'; it has " + port_names(all));
  if (port->dtype != DType::f32) {
    throw InputError("the " + network + "'s " + what + " '" + name + "' must hold float32, not " + to_string(port->dtype));
  }
}

// Whether some shape and dtype fits both.
bool compatible(const Port& a, const Port& b) {
  return a.dtype == b.dtype && std::ranges::equal(a.shape, b.shape, [](std::int64_t x, std::int64_t y) {
    return x < 0 || y < 0 || x == y;
  });
}

}  // namespace

Tensor StepInfo::copy_clean() const {
  Tensor copy(clean.shape(), clean.dtype());
  stream->copy(clean, copy);
  return copy;
}

bool is_per_item(const Tensor& per_step, const Port& port) { return per_step.rank() == port.shape.size() + 1; }

std::vector<ValueCheck> check(const LoopRequest& request, const StepTable& table, const Network& network,
                              const LoopPorts& ports, const Network* reuse, Place place) {
  Checks checks{place, {}};
  table.check();
  if (table.reuses() && !reuse) {
    throw InputError("the step table has rows that reuse features, but the loop was made without a reuse network");
  }
  const Shape& shape = request.shape;
  if (shape.size() < 2 || !std::ranges::all_of(shape, [](std::int64_t extent) { return extent >= 1; })) {
    throw InputError("shape must be (N, C, ...) with every extent at least 1, not " + to_string(shape));
  }
  static_cast<void>(element_count(shape));  // refuses what would overflow
  if (shape.front() > INT32_MAX) throw InputError("shape asks for " + std::to_string(shape.front()) + " items");
  if (request.seeds.size() != static_cast<std::size_t>(shape.front())) {
    throw InputError("seeds must hold one number for each of the " + std::to_string(shape.front()) + " items, not " +
                     std::to_string(request.seeds.size()));
  }
  check_control(request, table, ports);
  check_conditions(request, network, ports, checks);
  check_per_step(request, table, network, ports, checks);
  check_batches(request, table, network, ports, false);
  if (reuse) check_batches(request, table, *reuse, ports, true);
  if (request.initial) check_state(*request.initial, shape, "initial", checks);
  if (table.init_signal != 0 && !request.initial) {
    throw InputError("the step table starts from a given state (init_signal is not 0): initial is needed");
  }
  check_known(request, table, checks);
  if (request.noise) check_noise(*request.noise, request, table, checks);
  return checks.later;
}

void check(const Network& network, const LoopPorts& ports) {
  require(network.inputs(), ports.state, "input", "network");
  if (ports.timestep) require(network.inputs(), *ports.timestep, "input", "network");
  if (ports.control) require(network.inputs(), *ports.control, "input", "network");
  require(network.outputs(), ports.output, "output", "network");
}

std::vector<std::string> kept_features(const Network& network, const Network& reuse, const LoopPorts& ports) {
  require(reuse.outputs(), ports.output, "output", "reuse network");
  std::vector<std::string> features;
  for (const Port& port : reuse.inputs()) {
    const Port* given = find_port(network.inputs(), port.name);
    const Port* kept = find_port(network.outputs(), port.name);
    if (!given && !kept) {
      throw InputError("the reuse network takes '" + port.name + "', which is neither an input of the network, " +
                       port_names(network.inputs()) + ", nor an output, " + port_names(network.outputs()));
    }
    if (!compatible(given ? *given : *kept, port)) {
      throw InputError("the reuse network's input '" + port.name + "' has another shape or dtype than the network's");
    }
    if (given) continue;
    if (port.name == ports.output) throw InputError("the reuse network takes '" + port.name + "', the prediction itself");
    if (port.shape.empty()) throw InputError("the kept feature '" + port.name + "' must have an axis of items");
    features.push_back(port.name);
  }
  if (features.empty()) {
    throw InputError("the reuse network takes no output of the network, which gives " + port_names(network.outputs()));
  }
  return features;
}

}  // namespace hoirt
