// A CUDA device as hoirt's engine sees it: a memory pool of its own, streams, events, graphs.
#pragma once

#include <cuda_runtime.h>

#include <list>
#include <memory>
#include <mutex>

#include "csrc/cuda/pool.h"
#include "engine/device.h"

namespace hoirt::cuda {

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
  void with_idle_streams(const std::function<void(const std::vector<void*>&)>& work) override {
    pool_->with_idle_streams(work);
  }
  void trim() override { pool_->trim(); }
  const std::shared_ptr<Pool>& pool() const { return pool_; }

 private:
  std::string name_;
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<CudaStream> stream_;
};

}  // namespace hoirt::cuda
