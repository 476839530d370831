// A CUDA device as hoirt's engine sees it: a memory pool of its own, streams, events, graphs.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "csrc/cuda/memory.h"
#include "engine/device.h"

namespace hoirt::cuda {

// A stream that lives as long as memory that was allocated on it.
struct StreamHandle {
  explicit StreamHandle(int device);
  ~StreamHandle();
  StreamHandle(const StreamHandle&) = delete;
  StreamHandle& operator=(const StreamHandle&) = delete;
  // Throws BackendError if the stream records: a replay would not do it right.
  void refuse_recording(const char* what) const;

  const int device;
  cudaStream_t stream = nullptr;
  // While it records, memory is given back by anyone at any time, but must not become part of the graph.
  std::mutex mutex;
  std::atomic<bool> recording = false;
  std::vector<void*> given_back;
};

// What outlives the device, as memory and streams of it may: the pool.
class Pool {
 public:
  explicit Pool(int index);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int index() const { return index_; }
  cudaMemPool_t handle() const { return pool_; }
  // The device's own stream.
  const std::shared_ptr<StreamHandle>& own() const { return own_; }
  // A stream for a run, and its return when all its work is done. Runtimes keep contexts and workspaces for each stream that
  // they have seen, so there are no more of them than runs at once.
  std::shared_ptr<StreamHandle> take_stream();
  void return_stream(std::shared_ptr<StreamHandle> stream) noexcept;
  // Memory for work on `stream`. When its last owner goes, other work on it must be done, or be enqueued on `stream`, on
  // the device's own stream, or before later work of the default stream.
  static std::shared_ptr<void> allocate(const std::shared_ptr<Pool>& pool, std::size_t bytes,
                                        const std::shared_ptr<StreamHandle>& stream);
  // Begins to record the stream, and ends it; memory that was given back meanwhile is freed then.
  void begin(StreamHandle& stream);
  cudaError_t end(StreamHandle& stream, cudaGraph_t* graph) noexcept;
  void trim();
  // Held alone by who records, and together by those who call networks.
  std::shared_timed_mutex& gate() { return gate_; }

 private:
  void free(void* memory, StreamHandle& stream) noexcept;
  void free_now(void* memory, const StreamHandle& stream) noexcept;

  int index_;
  cudaMemPool_t pool_ = nullptr;
  std::shared_ptr<StreamHandle> own_;
  // Orders frees behind the streams that used the memory, and delays none of them; `used_` is a point in one of those.
  std::mutex frees_mutex_;
  StreamHandle frees_;
  CudaEvent used_;
  std::shared_timed_mutex gate_;
  std::mutex streams_mutex_;
  std::vector<std::shared_ptr<StreamHandle>> streams_;  // that nobody uses
};

// Pinned memory through which copies between host and device go, in pieces behind one another.
class Staging {
 public:
  ~Staging() { clear(); }
  void clear() noexcept;
  // `bytes` of pinned memory that no copy on `stream` still uses.
  void* take(std::size_t bytes, cudaStream_t stream);

 private:
  static constexpr std::size_t least = std::size_t{1} << 22;
  void* memory_ = nullptr;
  std::size_t size_ = 0, used_ = 0;
};

class CudaStream final : public Stream {
 public:
  CudaStream(std::shared_ptr<Pool> pool, std::shared_ptr<StreamHandle> handle);
  ~CudaStream() override;

  Place place() const override { return {Place::Kind::cuda, pool_->index()}; }
  void* handle() const override { return stream_; }
  Tensor allocate(const Shape& shape, DType dtype) override;
  void copy(const Tensor& from, Tensor& to) override;
  void clear(Tensor& tensor) override;
  std::shared_ptr<const hoirt::Event> record() override;
  void keep(std::shared_ptr<const void> owner) noexcept override;
  void select(const kernels::SelectRow& select) override;
  void copy_items(const kernels::CopyItems& copy) override;
  void broadcast(const kernels::Broadcast& broadcast) override;
  void feed(const kernels::FeedStep& feed) override;
  void guided_step(const kernels::GuidedStep& step) override;
  void resize(const ResizeJob& job) override;
  void match_colours(const ColourJob& job) override;
  void normalise(const NormaliseJob& job) override;
  void colours(const ColoursJob& job) override;
  void paste(const kernels::Paste& paste) override;
  void pad_edge(const kernels::PadEdge& pad) override;
  void sample_posterior(const kernels::SamplePosterior& sample) override;
  void map(const MapJob& job) override;
  void draw(const DrawJob& job) override;
  bool all_within(const Tensor& values, float low, float high) override;
  std::int32_t* flag() override { return flag_; }
  void check_within(const Tensor& values, float low, float high, std::int32_t mark) override;
  void end_step(std::size_t index) override;
  void synchronize() override;
  void call(const std::function<void()>& work) override;
  std::unique_ptr<Graph> capture(const std::function<void()>& body) override;

 private:
  template <typename Job>
  void enqueue(void (*launch)(const Job&, void*), const Job& job) {
    const DeviceScope scope(pool_->index());
    launch(job, stream_);
  }
  template <typename Job>
  void enqueue(void (*launch)(const Job&, const Queue&), const Job& job) {
    const DeviceScope scope(pool_->index());
    launch(job, {stream_, pool_->handle()});
  }
  void enqueue_check(const Tensor& values, float low, float high, std::int32_t* flag, std::int32_t fine, std::int32_t mark);
  void upload(const Tensor& from, Tensor& to);
  void download(const Tensor& from, Tensor& to);

  std::shared_ptr<Pool> pool_;
  std::shared_ptr<StreamHandle> handle_;
  cudaStream_t stream_;
  cudaEvent_t steps_[run_ahead] = {};
  std::mutex mutex_;  // of the staging memory and what follows
  Staging staging_;
  std::int32_t* flag_ = nullptr;    // pinned
  std::int32_t* within_ = nullptr;  // pinned

  struct Kept {
    std::unique_ptr<CudaEvent> event;
    std::shared_ptr<const void> owner;
  };
  std::mutex kept_mutex_;
  std::list<Kept> kept_;  // the first goes first
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index);
  Place place() const override { return {Place::Kind::cuda, pool_->index()}; }
  std::string name() const override { return name_; }
  Memory memory() const override;
  Stream& stream() override { return *stream_; }
  std::unique_ptr<Stream> make_stream() override {
    return std::make_unique<CudaStream>(pool_, pool_->take_stream());
  }
  std::string no_graphs() const override { return {}; }
  void trim() override { pool_->trim(); }
  const std::shared_ptr<Pool>& pool() const { return pool_; }

 private:
  std::string name_;
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<CudaStream> stream_;
};

}  // namespace hoirt::cuda
