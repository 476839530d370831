// The loop: bind buffers once, then per row one network call and one fused step.
#include "engine/denoise_loop.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/guided_step.h"

namespace hoirt {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Items of `source` (N or 1 of them) into the N items of `target`.
void copy_items(const Tensor& source, Tensor target) {
  const auto items = static_cast<std::size_t>(target.dim(0));
  const std::size_t item_bytes = target.bytes() / items;
  const std::size_t stride = source.dim(0) == 1 ? 0 : item_bytes;
  auto* to = static_cast<std::byte*>(target.raw());
  const auto* from = static_cast<const std::byte*>(source.raw());
  if (item_bytes == 0) return;
  for (std::size_t i = 0; i < items; ++i) std::memcpy(to + i * item_bytes, from + i * stride, item_bytes);
}

// `source` repeated along its axes of length 1 until it has the target's shape.
void broadcast(const Tensor& source, Tensor& target) {
  const float* from = source.data<float>();
  float* to = target.data<float>();
  const std::size_t rank = target.rank();
  std::vector<std::int64_t> stride(rank), index(rank, 0);
  std::int64_t step = 1;
  for (std::size_t axis = rank; axis-- > 0;) {
    stride[axis] = source.dim(axis) == 1 ? 0 : step;
    step *= source.dim(axis);
  }
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < target.size(); ++i) {
    to[i] = from[offset];
    for (std::size_t axis = rank; axis-- > 0;) {
      offset += stride[axis];
      if (++index[axis] < target.dim(axis)) break;
      offset -= stride[axis] * index[axis];
      index[axis] = 0;
    }
  }
}

// Gives every draw its Philox stream, or the next slice of the caller's noise.
class NoiseStreams {
 public:
  static constexpr std::uint32_t initial = 0;
  static constexpr std::uint32_t initial_known = 0xFFFFFFFEu;
  static std::uint32_t of_row(std::size_t row) { return static_cast<std::uint32_t>(1 + 2 * row); }
  static std::uint32_t known_of_row(std::size_t row) { return static_cast<std::uint32_t>(2 + 2 * row); }

  NoiseStreams(const LoopRequest& request, std::size_t state_size)
      : seeds_(request.seeds.data()), given_(request.noise ? request.noise->data<float>() : nullptr), size_(state_size) {}

  kernels::Noise draw(std::uint32_t stream) {
    const float* given = given_;
    if (given_) given_ += size_;
    return {given, seeds_, stream};
  }

 private:
  const std::uint64_t* seeds_;
  const float* given_;
  std::size_t size_;
};

// One run: the buffers of batch 2 N (N if no row is guided) and the tensors that the network sees of them.
class Run {
 public:
  // `reuse` may be null if no row of the table needs it.
  Run(const StepTable& table, const LoopRequest& request, const LoopPorts& ports, Network& network, Network* reuse,
      const std::vector<std::string>& features, Workspace& workspace)
      : table_(table),
        request_(request),
        items_(request.shape.front()),
        unconditional_items_(table.guided() ? items_ : 0),
        sample_(workspace.get("state", batched(request.shape))),
        prediction_(workspace.get("prediction", batched(request.shape))),
        clean_(workspace.get("clean", request.shape)),
        noise_(request, clean_.size()),
        features_(features) {
    TensorMap inputs{{ports.state, sample_}};
    if (ports.timestep) {
      timestep_ = workspace.get("timestep", batched({items_}));
      inputs.emplace(*ports.timestep, *timestep_);
    }
    for (const auto& [name, rows] : request.per_step) {
      const bool per_item = is_per_item(rows, *find_port(network.inputs(), name));
      Shape shape(rows.shape().begin() + (per_item ? 1 : 0), rows.shape().end());
      shape.front() = items_;
      const Tensor batch = workspace.get("per step " + name, batched(std::move(shape)), rows.dtype());
      const auto without = request.per_step_uncondition.find(name);
      per_step_.push_back({rows, without == request.per_step_uncondition.end() ? rows : without->second, batch});
      inputs.emplace(name, batch);
    }
    if (ports.control) {
      control_ = workspace.get("control", batched({items_}));
      inputs.emplace(*ports.control, *control_);
    }
    for (const auto& [name, tensor] : request.condition) inputs.emplace(name, fill_condition(name, tensor, workspace));
    full_ = keep_ = calls(network, inputs, ports);
    if (reuse) reuse_ = calls(*reuse, inputs, ports);
    if (table.uses_known()) {
      mask_ = workspace.get("mask", request.shape);
      broadcast(*request.mask, *mask_);
    }
  }

  // The initial state is a step without a network: init_signal * given + init_noise * n, then the known region.
  void start() {
    kernels::GuidedStep step = step_frame(0);
    step.C = table_.init_signal;
    step.F = table_.init_noise;
    step.state = request_.initial && table_.init_signal != 0 ? request_.initial->data<float>() : nullptr;
    step.noise = noise_.draw(NoiseStreams::initial);
    if (table_.init_known) blend_known(step, *table_.init_known, NoiseStreams::initial_known);
    cpu::guided_step(step);
  }

  // Returns the seconds in the network.
  double step(std::size_t index) {
    const Row& row = table_.rows[index];
    feed(row, static_cast<std::int64_t>(index));
    const auto start = Clock::now();
    run_network(index);
    const double seconds = seconds_since(start);

    kernels::GuidedStep step = step_frame(index + 1);
    step.guidance = row.guidance;
    step.A = row.A, step.B = row.B, step.C = row.C, step.D = row.D, step.E = row.E, step.F = row.F;
    step.clip = row.clip;
    step.state = step.next;
    step.unconditional = row.guided() ? prediction_.data<float>() : nullptr;
    step.conditional = prediction_.data<float>() + unconditional_items_ * step.item_size;
    step.previous_clean = row.E != 0 ? clean_.data<float>() : nullptr;
    if (row.F != 0) step.noise = noise_.draw(NoiseStreams::of_row(index));
    if (row.known) blend_known(step, {row.G, row.H}, NoiseStreams::known_of_row(index));
    const bool next_uses_clean = index + 1 < table_.rows.size() && table_.rows[index + 1].E != 0;
    step.clean = next_uses_clean || request_.on_step ? clean_.data<float>() : nullptr;
    cpu::guided_step(step);
    if (!cpu::all_finite(step.next, clean_.size())) {
      throw BackendError("step " + std::to_string(index) + " of " + std::to_string(table_.rows.size()) + " (timestep " +
                         std::to_string(row.timestep) + "): the state is not finite, the network's prediction holds " +
                         "NaN, infinity or overflows");
    }
    return seconds;
  }

  const Tensor& clean() const { return clean_; }

  Tensor latents() const {
    Tensor out(request_.shape, DType::f32);
    std::memcpy(out.raw(), conditional(sample_).raw(), out.bytes());
    return out;
  }

 private:
  struct Call {
    Network* network = nullptr;
    TensorMap inputs, outputs;

    void run() { network->run(inputs, outputs); }
  };
  // A network on the batch of 2 N and on the N conditional items.
  struct Calls {
    Call guided, single;

    Call& of(const Row& row) { return row.guided() ? guided : single; }
  };

  Shape batched(Shape shape) const {
    shape.front() += unconditional_items_;
    return shape;
  }

  Tensor conditional(const Tensor& batch) const { return batch.rows(unconditional_items_, batch.dim(0)); }

  // `inputs` hold the batch of 2 N; the network takes those that it has.
  Calls calls(Network& network, const TensorMap& inputs, const LoopPorts& ports) const {
    Calls made{{&network, {}, {{ports.output, prediction_}}}, {&network, {}, {{ports.output, conditional(prediction_)}}}};
    for (const auto& [name, tensor] : inputs) {
      if (!find_port(network.inputs(), name)) continue;
      made.guided.inputs.emplace(name, tensor);
      made.single.inputs.emplace(name, conditional(tensor));
    }
    return made;
  }

  void run_network(std::size_t index) {
    const Row& row = table_.rows[index];
    if (row.reuse) return reuse_.of(row).run();
    const bool keeps = index + 1 < table_.rows.size() && table_.rows[index + 1].reuse;
    if (!keeps) return full_.of(row).run();
    Call& call = keep_.of(row);
    for (const std::string& name : features_) call.outputs.try_emplace(name);  // the network allocates them once
    call.run();
    for (const std::string& name : features_) hand_on(name, call.outputs.at(name), row.guided());
  }

  // The reuse network reads the memory that the other one wrote.
  void hand_on(const std::string& name, const Tensor& kept, bool guided) {
    const std::int64_t batch = items_ + (guided ? unconditional_items_ : 0);
    if (kept.rank() < 1 || kept.dim(0) != batch) {
      throw BackendError("the network's output '" + name + "' must have " + std::to_string(batch) +
                         " items on its first axis, not shape " + to_string(kept.shape()));
    }
    if (guided) {
      reuse_.guided.inputs[name] = kept;
      keep_.single.outputs.try_emplace(name, conditional(kept));
    }
    reuse_.single.inputs[name] = guided ? conditional(kept) : kept;
  }

  Tensor fill_condition(const std::string& name, const Tensor& tensor, Workspace& workspace) {
    Shape shape = tensor.shape();
    shape.front() = items_;
    const Tensor batch = workspace.get("condition " + name, batched(std::move(shape)), tensor.dtype());
    copy_items(tensor, conditional(batch));
    if (unconditional_items_ > 0) {
      const auto without = request_.uncondition.find(name);
      copy_items(without == request_.uncondition.end() ? tensor : without->second, batch.rows(0, items_));
    }
    return batch;
  }

  // Where a step writes: the conditional half, and the other half too if row `next` runs it.
  kernels::GuidedStep step_frame(std::size_t next) {
    kernels::GuidedStep step;
    step.items = items_;
    step.item_size = static_cast<std::int64_t>(clean_.size()) / items_;
    float* batch = sample_.data<float>();
    step.next = batch + unconditional_items_ * step.item_size;
    step.copy = next < table_.rows.size() && table_.rows[next].guided() ? batch : nullptr;
    return step;
  }

  void blend_known(kernels::GuidedStep& step, const KnownLevel& level, std::uint32_t stream) {
    step.G = level.G;
    step.H = level.H;
    step.mask = mask_->data<float>();
    step.known = request_.known->data<float>();
    step.known_noise = noise_.draw(stream);
  }

  void feed(const Row& row, std::int64_t index) {
    if (timestep_) std::fill_n(timestep_->data<float>(), timestep_->size(), static_cast<float>(row.timestep));
    for (const PerStep& input : per_step_) {
      copy_items(input.of_step(input.condition, index), conditional(input.batch));
      if (row.guided()) copy_items(input.of_step(input.uncondition, index), input.batch.rows(0, items_));
    }
    if (!control_) return;
    float* scale = control_->data<float>();
    const auto items = static_cast<std::size_t>(items_);
    for (std::size_t i = 0; i < control_->size(); ++i) {
      const float strength = request_.control.size() == 1 ? request_.control[0] : request_.control[i % items];
      scale[i] = static_cast<float>(row.control * strength);
    }
  }

  const StepTable& table_;
  const LoopRequest& request_;
  std::int64_t items_;
  std::int64_t unconditional_items_;
  // The rows of all steps, (S, ...) or (S, N, ...), and the batch that the network sees.
  struct PerStep {
    Tensor condition, uncondition, batch;

    Tensor of_step(const Tensor& rows, std::int64_t index) const {
      return rows.rank() > batch.rank() ? rows.row(index) : rows.rows(index, index + 1);
    }
  };

  Tensor sample_, prediction_, clean_;
  std::optional<Tensor> timestep_, control_, mask_;
  std::vector<PerStep> per_step_;
  NoiseStreams noise_;
  std::vector<std::string> features_;
  Calls full_, keep_, reuse_;  // keep_: full_ that also gives the features
};

}  // namespace

DenoiseLoop::DenoiseLoop(std::shared_ptr<Network> network, LoopPorts ports, std::shared_ptr<Network> reuse)
    : network_(std::move(network)), reuse_(std::move(reuse)), ports_(std::move(ports)) {
  check(*network_, ports_);
  if (reuse_) features_ = kept_features(*network_, *reuse_, ports_);
}

LoopResult DenoiseLoop::run(const StepTable& table, const LoopRequest& request) {
  check(request, table, *network_, ports_, reuse_.get());
  const WorkspacePool::Lease workspace = pool_.take(request.shape);
  Run run(table, request, ports_, *network_, reuse_.get(), features_, *workspace);
  const auto stop_if_asked = [&] {
    if (request.cancel && request.cancel->cancelled()) throw Cancelled("the run was cancelled by its token");
    if (request.poll) request.poll();
  };
  const std::size_t steps = table.rows.size();
  LoopResult result{{}, std::vector<double>(steps), std::vector<double>(steps)};
  stop_if_asked();
  run.start();
  for (std::size_t i = 0; i < steps; ++i) {
    stop_if_asked();
    const auto start = Clock::now();
    result.network_seconds[i] = run.step(i);
    result.step_seconds[i] = seconds_since(start);
    if (!request.on_step) continue;
    const StepInfo info{i, steps, table.rows[i].timestep, result.step_seconds[i], run.clean()};
    if (!request.on_step(info)) {
      throw Cancelled("on_step cancelled the run after step " + std::to_string(i) + " of " + std::to_string(steps));
    }
  }
  result.latents = run.latents();
  return result;
}

}  // namespace hoirt
