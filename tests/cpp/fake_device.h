// A device without hardware: an address space of its own, poisoned memory, work that is done as late as it may be, and
// graphs that are recorded and replayed. What the loop would do wrong on a GPU crashes or gives wrong numbers here.
#pragma once

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/device.h"

namespace hoirt::test {

constexpr Place fake_place{Place::Kind::cuda, 7};

// Addresses of the device are not valid on the host.
constexpr std::uintptr_t device_bit = std::uintptr_t{1} << 60;

template <typename T>
T* real(T* address) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(address) & ~device_bit);
}

struct FakeCounts {
  std::atomic<int> captures = 0, launches = 0, downloads = 0, uploads = 0, waits = 0, most_ahead = 0, streams = 0;
  std::atomic<std::int64_t> live_bytes = 0;
  std::atomic<bool> fail_captures = false;
  std::atomic<int> busy_captures = 0;  // that will not be, as others are at work
};

class FakeStream;

class FakeGraph final : public Graph {
 public:
  FakeGraph(FakeStream& stream, std::vector<std::function<void()>> work) : stream_(stream), work_(std::move(work)) {}
  void launch() override;

 private:
  FakeStream& stream_;
  std::vector<std::function<void()>> work_;
};

class FakeEvent final : public Event {
 public:
  explicit FakeEvent(std::function<void()> finish) : finish_(std::move(finish)) {}
  void make_wait(void*) const override { finish_(); }

 private:
  std::function<void()> finish_;
};

class FakeStream final : public Stream {
 public:
  explicit FakeStream(std::shared_ptr<FakeCounts> counts)
      : counts_(std::move(counts)), host_(host_device()), worker_(host_->make_stream()) {
    ++counts_->streams;
  }
  ~FakeStream() override { --counts_->streams; }

  // What networks call with the handle that they are given.
  void enqueue(std::function<void()> work) {
    if (recording_) recorded_.push_back(std::move(work));
    else pending_.push_back(std::move(work));
  }
  bool recording() const { return recording_; }

  Place place() const override { return fake_place; }
  void* handle() const override { return const_cast<FakeStream*>(this); }

  Tensor allocate(const Shape& shape, DType dtype) override {
    if (recording_) throw BackendError("fake: an allocation while recording");
    const auto bytes = static_cast<std::int64_t>(element_count(shape) * item_size(dtype));
    const auto memory = std::make_shared<Tensor>(Shape{bytes}, DType::u8);
    if (bytes > 0) std::memset(memory->raw(), 0xFF, memory->bytes());
    counts_->live_bytes += bytes;
    void* address = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(memory->raw()) | device_bit);
    const std::shared_ptr<void> owner(address, [memory, bytes, counts = counts_](void*) {
      if (bytes > 0) std::memset(memory->raw(), 0xFF, memory->bytes());
      counts->live_bytes -= bytes;
    });
    return Tensor::borrow(address, shape, dtype, owner, fake_place);
  }

  void copy(const Tensor& from, Tensor& to) override {
    if (to.bytes() != from.bytes()) throw BackendError("fake: sizes differ");
    if (from.place().host()) {
      if (recording_) throw BackendError("fake: an upload while recording");
      ++counts_->uploads;
      const auto* bytes = static_cast<const std::byte*>(from.raw());
      enqueue([data = std::vector<std::byte>(bytes, bytes + from.bytes()), to]() mutable {
        std::memcpy(real(to.raw()), data.data(), data.size());
      });
    } else if (to.place().host()) {
      synchronize();  // throws while recording
      ++counts_->downloads;
      std::memcpy(to.raw(), real(from.raw()), to.bytes());
    } else {
      enqueue([from, to]() mutable { std::memcpy(real(to.raw()), real(from.raw()), to.bytes()); });
    }
  }

  std::shared_ptr<const Event> record() override {
    if (recording_) throw BackendError("fake: an event while recording");
    return std::make_shared<FakeEvent>([this] { synchronize(); });
  }

  void keep(std::shared_ptr<const void> owner) noexcept override { enqueue([owner] {}); }

  void select(const kernels::SelectRow& select) override {
    if (recording_) throw BackendError("fake: a graph must not fix its row");
    enqueue([=, this] { worker_->select({real(select.rows), real(select.current), select.index, real(select.times)}); });
  }
  void copy_items(const kernels::CopyItems& copy) override {
    enqueue([=, this] {
      kernels::CopyItems here = copy;
      here.from = real(copy.from), here.to = real(copy.to), here.row = real(copy.row);
      worker_->copy_items(here);
    });
  }
  void broadcast(const kernels::Broadcast& broadcast) override {
    enqueue([=, this] {
      kernels::Broadcast here = broadcast;
      here.from = real(broadcast.from), here.to = real(broadcast.to);
      worker_->broadcast(here);
    });
  }
  void feed(const kernels::FeedStep& feed) override {
    enqueue([=, this] {
      kernels::FeedStep here = feed;
      here.row = real(feed.row), here.timestep = real(feed.timestep), here.control = real(feed.control);
      here.strengths = real(feed.strengths), here.times = real(feed.times);
      worker_->feed(here);
    });
  }
  void guided_step(const kernels::GuidedStep& step) override {
    enqueue([=, this] {
      kernels::GuidedStep here = step;
      here.row = real(step.row), here.state = real(step.state), here.unconditional = real(step.unconditional);
      here.conditional = real(step.conditional), here.previous_clean = real(step.previous_clean);
      here.mask = real(step.mask), here.known = real(step.known), here.next = real(step.next);
      here.copy = real(step.copy), here.clean = real(step.clean), here.times = real(step.times);
      for (kernels::Noise* noise : {&here.noise, &here.known_noise}) {
        noise->given = real(noise->given), noise->seeds = real(noise->seeds);
      }
      worker_->guided_step(here);
    });
  }
  // Not part of the loop.
  void clear(Tensor&) override {}
  void resize(const ResizeJob&) override {}
  void match_colours(const ColourJob&) override {}
  void normalise(const NormaliseJob&) override {}
  void colours(const ColoursJob&) override {}
  void paste(const kernels::Paste&) override {}
  void pad_edge(const kernels::PadEdge&) override {}
  void sample_posterior(const kernels::SamplePosterior&) override {}
  void map(const MapJob&) override {}
  void draw(const DrawJob&) override {}
  bool all_within(const Tensor& values, float low, float high) override {
    synchronize();
    return worker_->all_within(Tensor::borrow(const_cast<void*>(real(values.raw())), values.shape(), values.dtype(), nullptr),
                               low, high);
  }

  std::int32_t* flag() override { return &flag_; }
  void check_within(const Tensor& values, float low, float high, std::int32_t mark) override {
    enqueue([=, this] {
      const Tensor here = Tensor::borrow(const_cast<void*>(real(values.raw())), values.shape(), values.dtype(), nullptr);
      if (flag_ == nothing && !worker_->all_within(here, low, high)) flag_ = mark;
    });
  }
  void end_step(std::size_t) override {
    if (recording_) throw BackendError("fake: a wait while recording");
    enqueue([this] { --ahead_; });
    ++ahead_;
    while (ahead_ > static_cast<int>(run_ahead)) run_one();
    counts_->most_ahead = std::max<int>(counts_->most_ahead, ahead_);
  }
  void synchronize() override {
    if (recording_) throw BackendError("fake: a wait while recording");
    ++counts_->waits;
    while (!pending_.empty()) run_one();
  }

  std::unique_ptr<Graph> capture(const std::function<void()>& body) override {
    recording_ = true;
    recorded_.clear();
    try {
      if (counts_->busy_captures > 0 && counts_->busy_captures-- > 0) throw DeviceBusy("fake: others are at work");
      body();
      if (counts_->fail_captures) throw BackendError("fake: no capture today");
    } catch (...) {
      recording_ = false;
      throw;
    }
    recording_ = false;
    ++counts_->captures;
    return std::make_unique<FakeGraph>(*this, std::exchange(recorded_, {}));
  }

  void launched() { ++counts_->launches; }

 private:
  void run_one() {
    const auto work = std::move(pending_.front());
    pending_.pop_front();
    work();
  }

  std::shared_ptr<FakeCounts> counts_;
  std::shared_ptr<Device> host_;
  std::unique_ptr<Stream> worker_;
  std::deque<std::function<void()>> pending_;
  std::vector<std::function<void()>> recorded_;
  bool recording_ = false;
  int ahead_ = 0;
  std::int32_t flag_ = nothing;
};

inline void FakeGraph::launch() {
  stream_.launched();
  for (const auto& work : work_) stream_.enqueue(work);
}

class FakeDevice final : public Device {
 public:
  std::shared_ptr<FakeCounts> counts = std::make_shared<FakeCounts>();
  std::atomic<int> trims = 0;

  Place place() const override { return fake_place; }
  std::string name() const override { return "fake"; }
  Memory memory() const override { return {}; }
  Stream& stream() override { return stream_; }
  std::unique_ptr<Stream> make_stream() override { return std::make_unique<FakeStream>(counts); }
  std::string no_graphs() const override { return {}; }
  void trim() override { ++trims; }

 private:
  FakeStream stream_{counts};
};

}  // namespace hoirt::test
