// The CPU as a device: everything is done at once, on the calling thread.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "csrc/cpu/launchers.h"
#include "engine/device.h"

namespace hoirt {
namespace {

std::uint64_t now() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

class HostEvent final : public Event {
 public:
  void make_wait(void*) const override {}
};

class HostStream final : public Stream {
 public:
  Place place() const override { return {}; }
  void* handle() const override { return nullptr; }
  Tensor allocate(const Shape& shape, DType dtype) override { return Tensor(shape, dtype); }
  void copy(const Tensor& from, Tensor& to) override {
    if (to.bytes() > 0) std::memcpy(to.raw(), from.raw(), to.bytes());
  }
  void clear(Tensor& tensor) override {
    if (tensor.bytes() > 0) std::memset(tensor.raw(), 0, tensor.bytes());
  }
  std::shared_ptr<const Event> record() override { return std::make_shared<HostEvent>(); }
  void keep(std::shared_ptr<const void>) noexcept override {}

  void select(const kernels::SelectRow& select) override {
    *select.current = select.rows[select.index];
    stamp(select.times, *select.current, kernels::step_begins);
  }
  void copy_items(const kernels::CopyItems& copy) override { cpu::copy_items(copy); }
  void broadcast(const kernels::Broadcast& broadcast) override { cpu::broadcast(broadcast); }
  void feed(const kernels::FeedStep& feed) override {
    for (std::int64_t i = 0; i < feed.size(); ++i) feed(i);
    stamp(feed.times, *feed.row, kernels::network_begins);
  }
  void guided_step(const kernels::GuidedStep& step) override {
    stamp(step.times, *step.row, kernels::network_ends);
    kernels::GuidedStep current = step;
    current.take(*step.row);
    cpu::guided_step(current);
    const auto size = static_cast<std::size_t>(step.items * step.item_size);
    if (step.flag && *step.flag == nothing && !cpu::all_finite(step.next, size)) *step.flag = step.row->index;
    stamp(step.times, *step.row, kernels::step_ends);
  }
  void resize(const ResizeJob& job) override { cpu::resize(job); }
  void match_colours(const ColourJob& job) override { cpu::match_colours(job); }
  void normalise(const NormaliseJob& job) override { cpu::normalise(job); }
  void colours(const ColoursJob& job) override { cpu::colours(job); }
  void paste(const kernels::Paste& paste) override { cpu::paste(paste); }
  void pad_edge(const kernels::PadEdge& pad) override { cpu::pad_edge(pad); }
  void sample_posterior(const kernels::SamplePosterior& sample) override { cpu::sample_posterior(sample); }
  void map(const MapJob& job) override { cpu::map(job); }
  void draw(const DrawJob& job) override { cpu::draw(job); }
  bool all_within(const Tensor& values, float low, float high) override {
    const float* begin = values.data<float>();
    return std::all_of(begin, begin + values.size(), [=](float value) { return value >= low && value <= high; });
  }

  std::int32_t* flag() override { return &flag_; }
  void check_within(const Tensor& values, float low, float high, std::int32_t mark) override {
    if (flag_ == nothing && !all_within(values, low, high)) flag_ = mark;
  }
  void end_step(std::size_t) override {}
  void synchronize() override {}
  std::unique_ptr<Graph> capture(const std::function<void()>&) override { return nullptr; }

 private:
  static void stamp(std::uint64_t* times, const kernels::StepRow& row, kernels::StepTime which) {
    if (times && row.index >= 0) times[kernels::step_times * row.index + which] = now();
  }

  std::int32_t flag_ = nothing;
};

class HostDevice final : public Device {
 public:
  Place place() const override { return {}; }
  std::string name() const override { return "CPU"; }
  Memory memory() const override { return cpu::memory(); }
  Stream& stream() override { return stream_; }
  std::unique_ptr<Stream> make_stream() override { return std::make_unique<HostStream>(); }
  std::string no_graphs() const override { return "the CPU records no graphs"; }
  void trim() override {}

 private:
  HostStream stream_;
};

}  // namespace

Tensor resident(const Tensor& tensor, Stream& stream) {
  if (tensor.place() == stream.place()) return tensor;
  Tensor copy = stream.allocate(tensor.shape(), tensor.dtype());
  stream.copy(tensor, copy);
  return copy;
}

std::shared_ptr<Device> host_device() { return std::make_shared<HostDevice>(); }

}  // namespace hoirt
