// LoopRun.
#include "engine/loop_run.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <utility>

#include "engine/loop_rows.h"

namespace hoirt {
namespace {

// A view of host memory that outlives it.
template <typename T>
Tensor view_of(const std::vector<T>& values, DType dtype) {
  const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(T) / item_size(dtype));
  return Tensor::borrow(const_cast<T*>(values.data()), {bytes}, dtype, nullptr);
}

// So that tables of similar length share buffers, and with them graphs.
std::int64_t rounded(std::int64_t rows) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(rows, 32))));
}

// The shapes, with or without the number of rows as it is.
void append(Shape& key, const TensorMap& tensors, bool tables) {
  key.push_back(static_cast<std::int64_t>(tensors.size()));
  for (const auto& [name, tensor] : tensors) {
    key.push_back(static_cast<std::int64_t>(tensor.rank()));
    key.insert(key.end(), tensor.shape().begin(), tensor.shape().end());
    if (tables) key[key.size() - tensor.rank()] = rounded(tensor.dim(0));
  }
}

// What the flag is if a check fails; the index of a step if that is not finite.
constexpr std::int32_t flag_of_check(std::size_t index) { return Stream::nothing - 1 - static_cast<std::int32_t>(index); }

// Clocks of different processors of a device may differ by a little.
double seconds_between(const std::uint64_t* times, kernels::StepTime from, kernels::StepTime to) {
  return times[to] > times[from] ? static_cast<double>(times[to] - times[from]) * 1e-9 : 0.0;
}

}  // namespace

Shape workspace_key(const StepTable& table, const LoopRequest& request, Place place) {
  Shape key = request.shape;
  if (place.host()) return key;
  key.push_back(table.guided());
  append(key, request.condition, false);
  append(key, request.per_step, true);
  append(key, request.per_step_uncondition, true);
  return key;
}

LoopRun::LoopRun(const StepTable& table, const LoopRequest& request, const std::vector<ValueCheck>& checks,
                 const LoopParts& parts, Workspace& workspace)
    : table_(table),
      request_(request),
      checks_(checks),
      parts_(parts),
      workspace_(workspace),
      stream_(workspace.stream()),
      records_(parts.device.no_graphs().empty()),
      items_(request.shape.front()),
      unconditional_items_(table.guided() ? items_ : 0),
      sample_(workspace.get("state", batched(request.shape))),
      prediction_(workspace.get("prediction", batched(request.shape))),
      clean_(workspace.get("clean", request.shape)),
      drain_{stream_} {
  if (!stream_.place().host()) parts.device.stream().record()->make_wait(stream_.handle());
  *stream_.flag() = Stream::nothing;
  for (std::size_t i = 0; i < checks.size(); ++i) {
    stream_.check_within(checks[i].tensor, checks[i].low, checks[i].high, flag_of_check(i));
  }
  make_rows();
  strengths_ = here("strengths", view_of(request.control, DType::f32));
  seeds_ = here("seeds", view_of(request.seeds, DType::i64));
  TensorMap inputs{{parts.ports.state, sample_}};
  bind_inputs(inputs);
  full_ = keep_ = calls(parts.network, inputs);
  if (parts.reuse) reuse_ = calls(*parts.reuse, inputs);
  if (request.initial && table.init_signal != 0) initial_ = here("initial", *request.initial);
  if (request.noise) noise_ = table_here("noise", *request.noise);
  if (table.uses_known()) {
    known_ = here("known", *request.known);
    broadcast_mask();
  }
}

LoopRun::Drain::~Drain() {
  try {
    stream.synchronize();
  } catch (const Error&) {
    // Whoever uses the device next is told, too.
  }
}

void LoopRun::start() {
  stream_.select({reinterpret_cast<const StepRow*>(rows_.raw()), row(), 0, nullptr});
  kernels::GuidedStep step = frame();
  step.state = table_.init_signal != 0 ? initial_->data<float>() : nullptr;
  step.unconditional = step.conditional = nullptr;
  step.flag = nullptr;
  step.times = nullptr;
  stream_.guided_step(step);
}

double LoopRun::step(std::size_t index) {
  const auto start = std::chrono::steady_clock::now();
  const Row& row = table_.rows[index];
  Call& call = call_of(index);
  const auto next = static_cast<std::int64_t>(index) + 1;
  stream_.select({reinterpret_cast<const StepRow*>(rows_.raw()), this->row(), next, times()});
  if (records_ && call.network->capturable()) {
    const bool launched = workspace_.graphs().run(
        stream_, [&] { return key_of(call, row.guided()); }, [&] { enqueue(row, call); });
    graphs_ += launched;
    if (const std::string& reason = workspace_.graphs().reason(); !reason.empty()) graph_reason_ = reason;
  } else {
    if (records_) graph_reason_ = "the network says that its work must not be recorded";
    enqueue(row, call);
  }
  if (keeps(index)) {
    for (const std::string& name : parts_.features) hand_on(name, call.outputs.at(name), row.guided());
  }
  stream_.end_step(index);
  check_flag();
  if (stream_.place().host()) {
    return seconds_between(times() + kernels::step_times * index, kernels::step_begins, kernels::step_ends);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Tensor LoopRun::finish() {
  Tensor out = stream_.allocate(request_.shape, DType::f32);
  stream_.copy(conditional(sample_), out);
  measured_.resize(kernels::step_times * table_.rows.size());
  Tensor measured = view_of(measured_, DType::i64);
  stream_.copy(times_.rows(0, measured.dim(0)), measured);
  stream_.synchronize();
  check_flag();
  return out;
}

double LoopRun::seconds(std::size_t index, kernels::StepTime from, kernels::StepTime to) const {
  return seconds_between(measured_.data() + kernels::step_times * index, from, to);
}

std::string LoopRun::graph_reason() const {
  if (!records_) return parts_.device.no_graphs();
  return graphs_ == 0 && graph_reason_.empty() ? "no step ran for the second time" : graph_reason_;
}

Shape LoopRun::batched(Shape shape) const {
  shape.front() += unconditional_items_;
  return shape;
}

Tensor LoopRun::conditional(const Tensor& batch) const { return batch.rows(unconditional_items_, batch.dim(0)); }

// The tensor itself where it is on the host and so is the loop; else its content in a buffer of that name.
Tensor LoopRun::here(const std::string& name, const Tensor& tensor) {
  if (stream_.place().host()) return tensor;
  Tensor target = workspace_.get(name, tensor.shape(), tensor.dtype());
  stream_.copy(tensor, target);
  return target;
}

// The same for a tensor whose first axis changes with the number of steps.
Tensor LoopRun::table_here(const std::string& name, const Tensor& tensor) {
  if (stream_.place().host()) return tensor;
  Shape shape = tensor.shape();
  shape.front() = rounded(shape.front());
  Tensor target = workspace_.get(name, shape, tensor.dtype()).rows(0, tensor.dim(0));
  stream_.copy(tensor, target);
  return target;
}

void LoopRun::make_rows() {
  step_rows_ = rows_of(table_, request_.noise.has_value(), static_cast<std::int64_t>(clean_.size()),
                       static_cast<bool>(request_.on_step));
  const auto steps = static_cast<std::int64_t>(table_.rows.size());
  const auto bytes = static_cast<std::int64_t>(sizeof(StepRow));
  rows_ = view_of(step_rows_, DType::u8);
  if (!stream_.place().host()) {
    Tensor there = workspace_.get("rows", {rounded(steps + 1) * bytes}, DType::u8);
    there = there.rows(0, rows_.dim(0));
    stream_.copy(rows_, there);
    rows_ = there;
  }
  row_ = workspace_.get("row", {bytes}, DType::u8);
  times_ = workspace_.get("times", {kernels::step_times * rounded(steps)}, DType::i64);
}

void LoopRun::bind_inputs(TensorMap& inputs) {
  const LoopPorts& ports = parts_.ports;
  if (ports.timestep) {
    timestep_ = workspace_.get("timestep", batched({items_}));
    inputs.emplace(*ports.timestep, *timestep_);
  }
  for (const auto& [name, rows] : request_.per_step) {
    const bool per_item = is_per_item(rows, *find_port(parts_.network.inputs(), name));
    Shape shape(rows.shape().begin() + (per_item ? 1 : 0), rows.shape().end());
    shape.front() = items_;
    const Tensor batch = workspace_.get("per step " + name, batched(std::move(shape)), rows.dtype());
    const Tensor condition = table_here("rows of " + name, rows);
    const auto without = request_.per_step_uncondition.find(name);
    per_step_.push_back({condition,
                         without == request_.per_step_uncondition.end()
                             ? condition
                             : table_here("unconditional rows of " + name, without->second),
                         batch});
    inputs.emplace(name, batch);
  }
  if (ports.control) {
    control_ = workspace_.get("control", batched({items_}));
    inputs.emplace(*ports.control, *control_);
  }
  for (const auto& [name, tensor] : request_.condition) inputs.emplace(name, fill_condition(name, tensor));
}

Tensor LoopRun::fill_condition(const std::string& name, const Tensor& tensor) {
  Shape shape = tensor.shape();
  shape.front() = items_;
  const Tensor batch = workspace_.get("condition " + name, batched(std::move(shape)), tensor.dtype());
  const auto fill = [&](const Tensor& source, Tensor target) {
    const auto item_bytes = static_cast<std::int64_t>(target.bytes()) / items_;
    stream_.copy_items({static_cast<const std::byte*>(source.raw()), static_cast<std::byte*>(target.raw()), items_,
                        item_bytes, source.dim(0) == 1 ? 0 : item_bytes, nullptr, 0});
  };
  const Tensor source = here("given " + name, tensor);
  fill(source, conditional(batch));
  if (unconditional_items_ > 0) {
    const auto without = request_.uncondition.find(name);
    const bool same = without == request_.uncondition.end();
    fill(same ? source : here("given unconditional " + name, without->second), batch.rows(0, items_));
  }
  return batch;
}

// Whether both halves of the batch are alike in all that the network takes by halves.
bool LoopRun::are_twins(const std::vector<std::string>& names) const {
  return std::ranges::none_of(names, [this](const std::string& name) {
    return request_.uncondition.contains(name) || request_.per_step_uncondition.contains(name);
  });
}

// `inputs` hold the batch of 2 N; the network takes those that it has, and twins of N items.
LoopRun::Calls LoopRun::calls(Network& network, const TensorMap& inputs) const {
  std::vector<std::string> twins = network.twins();
  if (!are_twins(twins)) twins.clear();
  const std::string& output = parts_.ports.output;
  Calls made{{&network, {}, {{output, prediction_}}}, {&network, {}, {{output, conditional(prediction_)}}}};
  for (const auto& [name, tensor] : inputs) {
    if (!find_port(network.inputs(), name)) continue;
    const bool twin = std::ranges::find(twins, name) != twins.end();
    made.guided.inputs.emplace(name, twin ? conditional(tensor) : tensor);
    made.single.inputs.emplace(name, conditional(tensor));
  }
  return made;
}

void LoopRun::broadcast_mask() {
  const Tensor given = here("given mask", *request_.mask);
  mask_ = workspace_.get("mask", request_.shape);
  kernels::Broadcast broadcast;
  broadcast.from = given.data<float>();
  broadcast.to = mask_->data<float>();
  broadcast.size = static_cast<std::int64_t>(mask_->size());
  broadcast.axes = static_cast<int>(mask_->rank());
  std::int64_t step = 1;
  for (std::size_t axis = mask_->rank(); axis-- > 0; step *= given.dim(axis)) {
    broadcast.extent[axis] = mask_->dim(axis);
    broadcast.stride[axis] = given.dim(axis) == 1 ? 0 : step;
  }
  stream_.broadcast(broadcast);
}

bool LoopRun::keeps(std::size_t index) const {
  return !table_.rows[index].reuse && index + 1 < table_.rows.size() && table_.rows[index + 1].reuse;
}

LoopRun::Call& LoopRun::call_of(std::size_t index) {
  const Row& row = table_.rows[index];
  if (row.reuse) return reuse_.of(row);
  if (!keeps(index)) return full_.of(row);
  Call& call = keep_.of(row);
  // The network allocates them once; on a device for all runs in this workspace, as graphs hold their addresses.
  for (const std::string& name : parts_.features) {
    const std::string kept = (row.guided() ? "guided " : "single ") + name;
    call.outputs.try_emplace(name, records_ ? workspace_.kept(kept) : Tensor());
  }
  return call;
}

// The step itself: all that a graph of it holds.
void LoopRun::enqueue(const Row& row, Call& call) {
  for (const PerStep& input : per_step_) {
    copy_rows(input.condition, conditional(input.batch));
    if (row.guided()) copy_rows(input.uncondition, input.batch.rows(0, items_));
  }
  kernels::FeedStep feed;
  feed.row = this->row();
  if (timestep_) feed.timestep = timestep_->data<float>(), feed.timesteps = timestep_->dim(0);
  if (control_) feed.control = control_->data<float>(), feed.controls = control_->dim(0);
  feed.strengths = strengths_.data<float>();
  feed.strength_count = strengths_.dim(0);
  feed.times = times();
  stream_.feed(feed);
  stream_.call([&] { call.network->run(call.inputs, call.outputs, stream_.handle()); });
  kernels::GuidedStep step = frame();
  step.unconditional = row.guided() ? prediction_.data<float>() : nullptr;
  stream_.guided_step(step);
}

// The current step's row of a table, for all items or each its own.
void LoopRun::copy_rows(const Tensor& rows, Tensor batch) {
  const auto item_bytes = static_cast<std::int64_t>(batch.bytes()) / items_;
  const auto row_bytes = static_cast<std::int64_t>(rows.bytes()) / rows.dim(0);
  const bool each = rows.rank() > batch.rank() && rows.dim(1) > 1;
  stream_.copy_items({static_cast<const std::byte*>(rows.raw()), static_cast<std::byte*>(batch.raw()), items_,
                      item_bytes, each ? item_bytes : 0, row(), row_bytes});
}

// The reuse network reads the memory that the other one wrote.
void LoopRun::hand_on(const std::string& name, const Tensor& kept, bool guided) {
  const std::int64_t batch = items_ + (guided ? unconditional_items_ : 0);
  if (kept.rank() < 1 || kept.dim(0) != batch) {
    throw BackendError("the network's output '" + name + "' must have " + std::to_string(batch) +
                       " items on its first axis, not shape " + to_string(kept.shape()));
  }
  if (records_) workspace_.kept((guided ? "guided " : "single ") + name) = kept;
  if (guided) {
    reuse_.guided.inputs[name] = kept;
    keep_.single.outputs.try_emplace(name, conditional(kept));
  }
  reuse_.single.inputs[name] = guided ? conditional(kept) : kept;
}

GraphCache::Key LoopRun::key_of(const Call& call, bool guided) const {
  GraphCache::Key key{reinterpret_cast<std::uintptr_t>(call.network), guided};
  const auto add = [&key](const Tensor& tensor) {
    key.push_back(reinterpret_cast<std::uintptr_t>(tensor.raw()));
    key.push_back(static_cast<std::uintptr_t>(tensor.dtype()));
    for (const std::int64_t extent : tensor.shape()) key.push_back(static_cast<std::uintptr_t>(extent));
  };
  for (const TensorMap* map : {&call.inputs, &call.outputs}) {
    for (const auto& [name, tensor] : *map) add(tensor);
  }
  // Of tables, a row: how many there are is nothing to a graph.
  for (const PerStep& input : per_step_) add(input.condition.row(0)), add(input.uncondition.row(0)), add(input.batch);
  for (const auto* tensor : {&known_, &mask_}) {
    key.push_back(tensor->has_value());
    if (*tensor) add(**tensor);
  }
  key.push_back(noise_.has_value());
  if (noise_) add(noise_->row(0));
  for (const Tensor* tensor : {&clean_, &strengths_, &seeds_, &row_, &times_}) add(*tensor);
  return key;
}

// What is the same in every step of one kind; the row's numbers and choices are read from memory.
kernels::GuidedStep LoopRun::frame() {
  kernels::GuidedStep step;
  step.row = row();
  step.items = items_;
  step.item_size = static_cast<std::int64_t>(clean_.size()) / items_;
  float* batch = sample_.data<float>();
  step.next = batch + unconditional_items_ * step.item_size;
  step.state = step.next;
  step.copy = unconditional_items_ > 0 ? batch : nullptr;
  step.conditional = prediction_.data<float>() + unconditional_items_ * step.item_size;
  step.clean = clean_.data<float>();
  step.previous_clean = step.clean;
  if (known_) step.known = known_->data<float>(), step.mask = mask_->data<float>();
  step.noise.seeds = step.known_noise.seeds = reinterpret_cast<const std::uint64_t*>(seeds_.raw());
  step.noise.given = step.known_noise.given = noise_ ? noise_->data<float>() : nullptr;
  step.flag = stream_.flag();
  step.times = times();
  return step;
}

void LoopRun::check_flag() const {
  const std::int32_t index = *stream_.flag();
  if (index == Stream::nothing) return;
  if (index < 0) throw InputError(checks_.at(static_cast<std::size_t>(flag_of_check(0) - index)).wrong);
  throw BackendError("step " + std::to_string(index) + " of " + std::to_string(table_.rows.size()) + " (timestep " +
                     std::to_string(table_.rows.at(static_cast<std::size_t>(index)).timestep) +
                     "): the state is not finite, the network's prediction holds NaN, infinity or overflows");
}

}  // namespace hoirt
