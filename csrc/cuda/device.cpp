// CudaDevice, its streams and graphs.
#include "csrc/cuda/device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "csrc/cuda/check.h"
#include "csrc/cuda/launchers.h"

namespace hoirt::cuda {
namespace {

class CudaGraph final : public Graph {
 public:
  CudaGraph(int device, cudaStream_t stream, cudaGraphExec_t graph) : device_(device), stream_(stream), graph_(graph) {}
  ~CudaGraph() override {
    quietly(device_, [this] { cudaGraphExecDestroy(graph_); });
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void launch() override {
    const DeviceScope scope(device_);
    check(cudaGraphLaunch(graph_, stream_), "the recorded step could not be launched");
  }

 private:
  int device_;
  cudaStream_t stream_;
  cudaGraphExec_t graph_;
};

constexpr std::chrono::milliseconds patience{20};  // of who would record; it may do so a step later

// That the calling thread is inside of a pool's gate, through which it must not go again.
class Inside {
 public:
  explicit Inside(const Pool& pool) : pool_(pool), outer_(std::exchange(innermost, this)) {}
  ~Inside() { innermost = outer_; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  static bool of(const Pool& pool) {
    const Inside* at = innermost;
    while (at && &at->pool_ != &pool) at = at->outer_;
    return at != nullptr;
  }

 private:
  const Pool& pool_;
  const Inside* outer_;
  static thread_local const Inside* innermost;
};
thread_local const Inside* Inside::innermost = nullptr;

// Pieces that pinned memory has room for.
template <typename Copy>
void in_pieces(std::size_t bytes, const Copy& copy) {
  constexpr std::size_t most = std::size_t{1} << 25;
  for (std::size_t offset = 0; offset < bytes; offset += most) copy(offset, std::min(most, bytes - offset));
}

}  // namespace

void Staging::clear() noexcept {
  if (memory_) cudaFreeHost(std::exchange(memory_, nullptr));
  size_ = used_ = 0;
}

void* Staging::take(std::size_t bytes, cudaStream_t stream) {
  constexpr std::size_t alignment = 256;
  if (used_ + bytes > size_) {
    check(cudaStreamSynchronize(stream), "the device failed");
    used_ = 0;
    if (bytes > size_) {
      clear();
      const std::size_t wanted = std::max(least, bytes);
      check(cudaMallocHost(&memory_, wanted), "pinned memory could not be allocated");
      size_ = wanted;
    }
  }
  void* given = static_cast<std::byte*>(memory_) + used_;
  used_ += (bytes + alignment - 1) / alignment * alignment;
  return given;
}

CudaStream::CudaStream(std::shared_ptr<Pool> pool, std::shared_ptr<StreamHandle> handle)
    : pool_(std::move(pool)), handle_(std::move(handle)), stream_(handle_->stream) {
  const DeviceScope scope(pool_->index());
  // Mapped: kernels write it without a copy, and only if something is wrong.
  check(cudaHostAlloc(&flag_, 2 * sizeof(std::int32_t), cudaHostAllocMapped | cudaHostAllocPortable),
        "pinned memory could not be allocated");
  flag_[0] = nothing;
  within_ = flag_ + 1;
  try {
    for (cudaEvent_t& event : steps_) {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "an event could not be made");
    }
  } catch (...) {
    for (cudaEvent_t event : steps_) {
      if (event) cudaEventDestroy(event);
    }
    cudaFreeHost(flag_);
    throw;
  }
}

CudaStream::~CudaStream() {
  quietly(pool_->index(), [this] {
    cudaStreamSynchronize(stream_);
    for (cudaEvent_t event : steps_) cudaEventDestroy(event);
    cudaFreeHost(flag_);
    staging_.clear();
  });
  if (handle_ != pool_->own()) pool_->return_stream(std::move(handle_));
}

Tensor CudaStream::allocate(const Shape& shape, DType dtype) {
  const std::shared_ptr<void> memory = Pool::allocate(pool_, element_count(shape) * item_size(dtype), handle_);
  return Tensor::borrow(memory.get(), shape, dtype, memory, place());
}

void CudaStream::copy(const Tensor& from, Tensor& to) {
  if (to.bytes() == 0) return;
  const DeviceScope scope(pool_->index());
  if (from.place().host()) return upload(from, to);
  if (to.place().host()) return download(from, to);
  check(cudaMemcpyAsync(to.raw(), from.raw(), to.bytes(), cudaMemcpyDeviceToDevice, stream_), "a copy failed");
}

void CudaStream::clear(Tensor& tensor) {
  const DeviceScope scope(pool_->index());
  check(cudaMemsetAsync(tensor.raw(), 0, tensor.bytes(), stream_), "memory could not be cleared");
}

void CudaStream::upload(const Tensor& from, Tensor& to) {
  handle_->refuse_recording("an upload");  // a replay would read staging memory that holds something else
  const std::lock_guard lock(mutex_);
  in_pieces(to.bytes(), [&](std::size_t offset, std::size_t bytes) {
    void* pinned = staging_.take(bytes, stream_);
    std::memcpy(pinned, static_cast<const std::byte*>(from.raw()) + offset, bytes);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to.raw()) + offset, pinned, bytes, cudaMemcpyHostToDevice, stream_),
          "an upload failed");
  });
}

void CudaStream::download(const Tensor& from, Tensor& to) {
  handle_->refuse_recording("a download");
  const std::lock_guard lock(mutex_);
  in_pieces(to.bytes(), [&](std::size_t offset, std::size_t bytes) {
    void* pinned = staging_.take(bytes, stream_);
    check(cudaMemcpyAsync(pinned, static_cast<const std::byte*>(from.raw()) + offset, bytes, cudaMemcpyDeviceToHost,
                          stream_),
          "a download failed");
    check(cudaStreamSynchronize(stream_), "the device failed");
    std::memcpy(static_cast<std::byte*>(to.raw()) + offset, pinned, bytes);
  });
}

std::shared_ptr<const hoirt::Event> CudaStream::record() {
  handle_->refuse_recording("an event");
  auto event = std::make_shared<CudaEvent>(pool_->index());
  event->record(stream_);
  return event;
}

void CudaStream::keep(std::shared_ptr<const void> owner) noexcept {
  std::list<Kept> gone;  // when the lock is open again
  try {
    Kept kept{std::make_unique<CudaEvent>(pool_->index()), owner};
    kept.event->record(stream_);
    const std::lock_guard lock(kept_mutex_);
    kept_.push_back(std::move(kept));
    while (!kept_.empty() && kept_.front().event->reached()) gone.splice(gone.end(), kept_, kept_.begin());
  } catch (const std::exception&) {
    quietly(pool_->index(), [this] { cudaStreamSynchronize(stream_); });
  }
}

void CudaStream::select(const kernels::SelectRow& job) { enqueue(cuda::select_row, job); }
void CudaStream::copy_items(const kernels::CopyItems& job) { enqueue(cuda::copy_items, job); }
void CudaStream::broadcast(const kernels::Broadcast& job) { enqueue(cuda::broadcast, job); }
void CudaStream::feed(const kernels::FeedStep& job) { enqueue(cuda::feed_step, job); }
void CudaStream::guided_step(const kernels::GuidedStep& job) { enqueue(cuda::guided_step, job); }
void CudaStream::resize(const ResizeJob& job) { enqueue(cuda::resize, job); }
void CudaStream::match_colours(const ColourJob& job) { enqueue(cuda::match_colours, job); }
void CudaStream::normalise(const NormaliseJob& job) { enqueue(cuda::normalise, job); }
void CudaStream::colours(const ColoursJob& job) { enqueue(cuda::colours, job); }
void CudaStream::paste(const kernels::Paste& job) { enqueue(cuda::paste, job); }
void CudaStream::pad_edge(const kernels::PadEdge& job) { enqueue(cuda::pad_edge, job); }
void CudaStream::sample_posterior(const kernels::SamplePosterior& job) { enqueue(cuda::sample_posterior, job); }
void CudaStream::map(const MapJob& job) { enqueue(cuda::map, job); }
void CudaStream::draw(const DrawJob& job) { enqueue(cuda::draw, job); }

bool CudaStream::all_within(const Tensor& values, float low, float high) {
  handle_->refuse_recording("a check");
  const DeviceScope scope(pool_->index());
  const std::lock_guard lock(mutex_);
  *within_ = 1;
  enqueue_check(values, low, high, within_, 1, 0);
  check(cudaStreamSynchronize(stream_), "the device failed");
  return *static_cast<const volatile std::int32_t*>(within_) != 0;
}

void CudaStream::check_within(const Tensor& values, float low, float high, std::int32_t mark) {
  handle_->refuse_recording("a check");
  const DeviceScope scope(pool_->index());
  enqueue_check(values, low, high, flag_, nothing, mark);
}

void CudaStream::enqueue_check(const Tensor& values, float low, float high, std::int32_t* flag, std::int32_t fine,
                               std::int32_t mark) {
  cuda::check_within(values.data<float>(), static_cast<std::int64_t>(values.size()), low, high, flag, fine, mark, stream_);
}

void CudaStream::end_step(std::size_t index) {
  const DeviceScope scope(pool_->index());
  cudaEvent_t event = steps_[index % run_ahead];
  // What the event stands for still is the step `run_ahead` steps ago.
  if (index >= run_ahead) check(cudaEventSynchronize(event), "a step failed");
  check(cudaEventRecord(event, stream_), "an event could not be recorded");
}

void CudaStream::synchronize() {
  handle_->refuse_recording("a wait");
  const DeviceScope scope(pool_->index());
  std::list<Kept> gone;
  {
    const std::lock_guard lock(kept_mutex_);
    gone.swap(kept_);
  }
  check(cudaStreamSynchronize(stream_), "the device failed");
}

void CudaStream::call(const std::function<void()>& work) {
  if (Inside::of(*pool_)) return work();
  const std::shared_lock gate(pool_->gate());
  const Inside inside(*pool_);
  work();
}

std::unique_ptr<Graph> CudaStream::capture(const std::function<void()>& body) {
  if (Inside::of(*pool_)) throw DeviceBusy("CUDA: a step is not recorded inside of a network");
  const std::unique_lock gate(pool_->gate(), patience);
  if (!gate) throw DeviceBusy("CUDA: a step is not recorded while other threads open networks or run them");
  const Inside inside(*pool_);
  const DeviceScope scope(pool_->index());
  cudaGraph_t graph = nullptr;
  pool_->begin(*handle_);
  try {
    body();
  } catch (...) {
    pool_->end(*handle_, &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  check(pool_->end(*handle_, &graph), "the step could not be captured");
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "the captured step could not be made ready");
  return std::make_unique<CudaGraph>(pool_->index(), stream_, made);
}

CudaDevice::CudaDevice(int index) {
  const int count = device_count();
  if (index < 0 || index >= count) {
    throw BackendError("there is no cuda:" + std::to_string(index) + ", the driver shows " + std::to_string(count) +
                       (count == 1 ? " CUDA device" : " CUDA devices"));
  }
  const DeviceScope scope(index);
  int pools = 0;
  check(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, index), "the device cannot be asked");
  if (!pools) throw BackendError("CUDA: cuda:" + std::to_string(index) + " has no memory pools");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "the device cannot be asked");
  name_ = properties.name;
  check_kernels();
  pool_ = std::make_shared<Pool>(index);
  stream_ = std::make_unique<CudaStream>(pool_, pool_->own());
}

Device::Memory CudaDevice::memory() const {
  const DeviceScope scope(pool_->index());
  Memory memory;
  check(cudaMemGetInfo(&memory.free, &memory.total), "the device's memory cannot be asked");
  return memory;
}

}  // namespace hoirt::cuda

extern "C" HOIRT_API hoirt::Device* hoirt_create_device(int index) { return new hoirt::cuda::CudaDevice(index); }
