// StreamHandle and Pool.
#include "csrc/cuda/pool.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "csrc/cuda/check.h"

namespace hoirt::cuda {

StreamHandle::StreamHandle(int index) : device(index) {
  const DeviceScope scope(device);
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream could not be made");
}

StreamHandle::~StreamHandle() {
  quietly(device, [this] { cudaStreamDestroy(stream); });
}

void StreamHandle::refuse_recording(const char* what) const {
  if (recording) throw BackendError(std::string("CUDA: ") + what + " cannot be recorded in a step");
}

Pool::Pool(int index) : index_(index), own_(std::make_shared<StreamHandle>(index)), frees_(index), used_(index) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = index;
  check(cudaMemPoolCreate(&pool_, &properties), "the memory pool could not be made");
  // Memory stays with the pool until trim(), as the next run needs it again.
  std::uint64_t keep = UINT64_MAX;
  const cudaError_t status = cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep);
  if (status != cudaSuccess) cudaMemPoolDestroy(pool_);
  check(status, "the memory pool could not be set up");
}

Pool::~Pool() {
  quietly(index_, [this] { cudaMemPoolDestroy(pool_); });
}

std::shared_ptr<StreamHandle> Pool::take_stream() {
  {
    const std::lock_guard lock(streams_mutex_);
    if (!streams_.empty()) {
      std::shared_ptr<StreamHandle> stream = std::move(streams_.back());
      streams_.pop_back();
      return stream;
    }
  }
  return std::make_shared<StreamHandle>(index_);
}

void Pool::return_stream(std::shared_ptr<StreamHandle> stream) noexcept {
  try {
    const std::lock_guard lock(streams_mutex_);
    streams_.push_back(std::move(stream));
  } catch (const std::exception&) {
    // Without memory for the list it is destroyed.
  }
}

void Pool::with_idle_streams(const std::function<void(const std::vector<void*>&)>& work) {
  struct Taken {
    explicit Taken(Pool& from) : pool(from) {
      const std::lock_guard lock(pool.streams_mutex_);
      streams.swap(pool.streams_);
    }
    ~Taken() {
      for (std::shared_ptr<StreamHandle>& stream : streams) pool.return_stream(std::move(stream));
    }
    Pool& pool;
    std::vector<std::shared_ptr<StreamHandle>> streams;
  };
  const Taken taken(*this);
  std::vector<void*> handles;
  for (const std::shared_ptr<StreamHandle>& stream : taken.streams) handles.push_back(stream->stream);
  work(handles);
}

std::shared_ptr<void> Pool::allocate(const std::shared_ptr<Pool>& pool, std::size_t bytes,
                                     const std::shared_ptr<StreamHandle>& stream) {
  stream->refuse_recording("an allocation");  // it would belong to the graph
  const DeviceScope scope(pool->index());
  void* memory = nullptr;
  const cudaError_t status =
      cudaMallocFromPoolAsync(&memory, std::max<std::size_t>(bytes, 1), pool->handle(), stream->stream);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the next call must not report it again
    std::size_t free = 0, total = 0;
    static_cast<void>(cudaMemGetInfo(&free, &total));
    throw OutOfMemory("cuda:" + std::to_string(pool->index()) + " cannot give " + std::to_string(bytes) +
                      " bytes; it has " + std::to_string(free) + " of " + std::to_string(total) + " free");
  }
  check(status, "memory could not be allocated");
  return {memory, [pool, stream](void* address) { pool->free(address, *stream); }};
}

void Pool::free(void* memory, StreamHandle& stream) noexcept {
  const std::lock_guard lock(stream.mutex);
  if (!stream.recording) return free_now(memory, stream);
  try {
    stream.given_back.push_back(memory);
  } catch (const std::bad_alloc&) {
    // Lost to the pool: nothing else is safe while the stream records.
  }
}

void Pool::free_now(void* memory, const StreamHandle& stream) noexcept {
  quietly(index_, [&] {
    const std::lock_guard lock(frees_mutex_);
    const auto after = [this](cudaStream_t user) {
      const bool ordered = cudaEventRecord(used_.handle(), user) == cudaSuccess &&
                           cudaStreamWaitEvent(frees_.stream, used_.handle(), 0) == cudaSuccess;
      if (!ordered) cudaStreamSynchronize(user);
    };
    after(stream.stream);
    if (stream.stream != own_->stream) after(own_->stream);
    after(nullptr);  // the default stream
    cudaFreeAsync(memory, frees_.stream);
  });
}

void Pool::begin(StreamHandle& stream) {
  const std::lock_guard lock(stream.mutex);
  // Relaxed: neither this thread's nor any other's allocations end the capture.
  check(cudaStreamBeginCapture(stream.stream, cudaStreamCaptureModeRelaxed), "the capture of a step could not begin");
  stream.recording = true;
}

cudaError_t Pool::end(StreamHandle& stream, cudaGraph_t* graph) noexcept {
  const std::lock_guard lock(stream.mutex);
  const cudaError_t status = cudaStreamEndCapture(stream.stream, graph);
  if (status != cudaSuccess) cudaGetLastError();
  stream.recording = false;
  for (void* memory : std::exchange(stream.given_back, {})) free_now(memory, stream);
  return status;
}

void Pool::trim() {
  const DeviceScope scope(index_);
  check(cudaStreamSynchronize(frees_.stream), "the device failed");
  check(cudaMemPoolTrimTo(pool_, 0), "memory could not be given back");
  check(cudaDeviceGraphMemTrim(index_), "the memory of graphs could not be given back");
}

}  // namespace hoirt::cuda
