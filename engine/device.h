// Device: where the loop's tensors live and its kernels run. Stream: work on a device, one piece after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "csrc/kernels/copy_items.h"
#include "csrc/kernels/guided_step.h"
#include "csrc/kernels/latents.h"
#include "csrc/kernels/pad_edge.h"
#include "csrc/kernels/paste.h"
#include "engine/error.h"
#include "engine/map_jobs.h"
#include "engine/picture_jobs.h"
#include "engine/tensor.h"

namespace hoirt {

// Work that was recorded once and is enqueued as a whole.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch() = 0;
};

// Others keep the device from recording; later it may.
class HOIRT_API DeviceBusy final : public BackendError {
 public:
  using BackendError::BackendError;
};

// A point in a stream.
class Event {
 public:
  virtual ~Event() = default;
  // Makes other work wait for it: `stream` is the device's own handle. The host waits only if that records a graph.
  virtual void make_wait(void* stream) const = 0;
};

// All calls but those that say so only enqueue. A fault of enqueued work shows as BackendError in a later call. Used by
// one thread at a time, but for allocate, copy, record and keep. In a capture none of these may be called, nor what waits.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual Place place() const = 0;
  virtual void* handle() const = 0;  // what networks are given; null on the CPU

  // Memory with any content that may be used on this stream at once. Throws OutOfMemory.
  virtual Tensor allocate(const Shape& shape, DType dtype) = 0;
  // The bytes of `from` into `to`, of the same size; either may be on the host. What is on the host may be changed, or
  // read, as soon as this returns.
  virtual void copy(const Tensor& from, Tensor& to) = 0;
  // All bytes 0.
  virtual void clear(Tensor& tensor) = 0;
  virtual std::shared_ptr<const Event> record() = 0;
  // Keeps `owner` until all that was enqueued so far is done; it goes in a later call.
  virtual void keep(std::shared_ptr<const void> owner) noexcept = 0;

  // The kernels. All pointers are the device's; `row` is where the current row lies.
  virtual void select(const kernels::SelectRow& select) = 0;
  virtual void copy_items(const kernels::CopyItems& copy) = 0;
  virtual void broadcast(const kernels::Broadcast& broadcast) = 0;
  virtual void feed(const kernels::FeedStep& feed) = 0;
  virtual void guided_step(const kernels::GuidedStep& step) = 0;
  // Pictures. All pointers are the device's.
  virtual void resize(const ResizeJob& job) = 0;
  virtual void match_colours(const ColourJob& job) = 0;
  virtual void normalise(const NormaliseJob& job) = 0;
  virtual void colours(const ColoursJob& job) = 0;
  virtual void paste(const kernels::Paste& paste) = 0;
  virtual void pad_edge(const kernels::PadEdge& pad) = 0;
  virtual void sample_posterior(const kernels::SamplePosterior& sample) = 0;
  // Maps of a region.
  virtual void map(const MapJob& job) = 0;
  virtual void draw(const DrawJob& job) = 0;
  // Whether all values, float32, lie in low..high; NaN does not. Waits.
  virtual bool all_within(const Tensor& values, float low, float high) = 0;

  // A number that kernels write while it is `nothing`, and the host reads; after end_step or synchronize it
  // is as the steps that are done left it.
  virtual std::int32_t* flag() = 0;
  static constexpr std::int32_t nothing = kernels::nothing;
  // Has `mark` written to the flag unless all values, float32, lie in low..high; NaN does not.
  virtual void check_within(const Tensor& values, float low, float high, std::int32_t mark) = 0;
  // Ends step `index`, counted from 0 in every run, and waits until at most `run_ahead` steps are under way.
  virtual void end_step(std::size_t index) = 0;
  virtual void synchronize() = 0;

  // Has a network, or what opens one, do its work. No other thread's stream of the device records meanwhile: runtimes wait
  // for the whole device when they try algorithms or load code, and share streams, both of which would end a recording.
  virtual void call(const std::function<void()>& work) { work(); }

  // Records what `body` enqueues on this stream, without running it. Throws what `body` throws, or BackendError if the
  // work cannot be recorded, DeviceBusy if that is for now; the stream is as before then. Null on devices that record
  // nothing.
  virtual std::unique_ptr<Graph> capture(const std::function<void()>& body) = 0;

  static constexpr std::size_t run_ahead = 2;
};

class Device {
 public:
  struct Memory {
    std::size_t free = 0, total = 0;  // bytes
  };

  virtual ~Device() = default;
  virtual Place place() const = 0;
  virtual std::string name() const = 0;  // of the model
  virtual Memory memory() const = 0;
  // The device's own stream, for what belongs to no run.
  virtual Stream& stream() = 0;
  // A stream of one run, ordered behind what the device's own has been given so far; it may outlive the device.
  virtual std::unique_ptr<Stream> make_stream() = 0;
  // Why streams record no graphs, or "".
  virtual std::string no_graphs() const = 0;
  // Calls `work` with the handles of the streams that no run has, and gives them to none meanwhile.
  virtual void with_idle_streams(const std::function<void(const std::vector<void*>&)>& work) { work({}); }
  // Gives memory that is kept for later allocations back to the system.
  virtual void trim() = 0;
};

// `tensor` where the stream works: itself, or a copy.
Tensor resident(const Tensor& tensor, Stream& stream);

std::shared_ptr<Device> host_device();

// The device `index` of the shared object `path`. Throws BackendError with the loader's or the driver's words.
std::shared_ptr<Device> load_device(const std::string& path, int index);

// Every module of devices exports this symbol with C linkage.
using CreateDevice = Device* (*)(int index);
inline constexpr const char* create_device_symbol = "hoirt_create_device";

}  // namespace hoirt
