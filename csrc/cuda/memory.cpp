// DeviceScope, CudaEvent and stream-ordered memory.
#include "csrc/cuda/memory.h"

#include <algorithm>
#include <utility>

#include "csrc/cuda/check.h"

namespace hoirt::cuda {
namespace {

void* take(std::size_t bytes, const Queue& queue) {
  void* memory = nullptr;
  check(cudaMallocFromPoolAsync(&memory, std::max<std::size_t>(bytes, 1), queue.pool, stream_of(queue.stream)),
        "no device memory for a picture");
  return memory;
}

bool is_recording(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_of(stream), &status), "the stream cannot be asked");
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace

DeviceScope::DeviceScope(int device) {
  check(cudaGetDevice(&previous_), "no current device");
  if (device == previous_) previous_ = -1;
  else check(cudaSetDevice(device), "the device cannot be used");
  cudaThreadExchangeStreamCaptureMode(&mode_);
}

DeviceScope::~DeviceScope() {
  cudaThreadExchangeStreamCaptureMode(&mode_);
  if (previous_ >= 0) cudaSetDevice(previous_);
}

CudaEvent::CudaEvent(int device) : device_(device) {
  const DeviceScope scope(device);
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "an event could not be made");
}

CudaEvent::~CudaEvent() {
  quietly(device_, [this] { cudaEventDestroy(event_); });
}

void CudaEvent::record(void* stream) {
  const DeviceScope scope(device_);
  check(cudaEventRecord(event_, stream_of(stream)), "an event could not be recorded");
}

bool CudaEvent::reached() const {
  const DeviceScope scope(device_);
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaSuccess) return true;
  cudaGetLastError();  // "not ready" is no error, but would be reported as one later
  if (status != cudaErrorNotReady) check(status, "the device failed");
  return false;
}

// A stream that records must not wait for what was not recorded with it, even if that is done long since: the host does.
void CudaEvent::make_wait(void* stream) const {
  if (reached()) return;
  const DeviceScope scope(device_);
  if (is_recording(stream)) check(cudaEventSynchronize(event_), "the device failed");
  else check(cudaStreamWaitEvent(stream_of(stream), event_, 0), "a stream could not wait for an event");
}

std::shared_ptr<void> scratch(std::size_t bytes, const Queue& queue) {
  int device = 0;
  check(cudaGetDevice(&device), "no current device");
  return {take(bytes, queue), [device, stream = queue.stream](void* memory) {
            quietly(device, [=] { cudaFreeAsync(memory, stream_of(stream)); });
          }};
}

std::shared_ptr<void> result(std::size_t bytes, const Queue& queue, std::shared_ptr<const CudaEvent> written,
                             std::vector<Tensor> read) {
  int device = 0;
  check(cudaGetDevice(&device), "no current device");
  return {take(bytes, queue), [device, written = std::move(written), read = std::move(read)](void* memory) {
            quietly(device, [&] {
              written->make_wait(nullptr);
              cudaFreeAsync(memory, nullptr);
            });
          }};
}

void refuse_capture(void* stream) {
  if (is_recording(stream)) {
    throw BackendError("CUDA: this cannot be captured as a graph, as it takes memory and reads the host's; run it outside");
  }
}

void upload(void* to, const void* from, std::size_t bytes, void* stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream)), "the upload failed");
}

}  // namespace hoirt::cuda
