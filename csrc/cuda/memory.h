// What every part of the CUDA module needs: the current device, events, and memory in the order of streams.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <exception>
#include <memory>
#include <vector>

#include "engine/device.h"

namespace hoirt::cuda {

// Makes `device` current while it lives. Meanwhile this thread's calls do not end a capture that another thread has begun.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int previous_ = -1;
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// For destructors. Errors are not reported: they are those of work that failed before, or of a driver that is gone.
template <typename Work>
void quietly(int device, const Work& work) noexcept {
  try {
    const DeviceScope scope(device);
    work();
  } catch (const std::exception&) {
  }
  cudaGetLastError();  // the next launch must not report it
}

// A point in a stream; nobody waits for one that was not recorded yet.
class CudaEvent final : public hoirt::Event {
 public:
  explicit CudaEvent(int device);
  ~CudaEvent() override;
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  // `stream` is a cudaStream_t, one of this device.
  void record(void* stream);
  bool reached() const;
  void make_wait(void* stream) const override;
  cudaEvent_t handle() const { return event_; }

 private:
  int device_;
  cudaEvent_t event_ = nullptr;
};

// Where work goes that takes memory: a stream, a cudaStream_t, and the device's pool. The driver's own pool would give the
// memory back to the system at each wait, and take it anew for each picture.
struct Queue {
  void* stream;
  cudaMemPool_t pool;
};

// Memory of the current device for work on the queue's stream, in whose order it is freed.
std::shared_ptr<void> scratch(std::size_t bytes, const Queue& queue);

// Memory that the queue's stream writes up to `written`, for users that may outlive the stream. When its last owner goes,
// other work on it must be done, or come before later work of the default stream. `read` are kept as long.
std::shared_ptr<void> result(std::size_t bytes, const Queue& queue, std::shared_ptr<const CudaEvent> written,
                             std::vector<Tensor> read);

// Throws BackendError if `stream` records: a replay could not read the host's memory again, nor free what was allocated.
void refuse_capture(void* stream);

// Copies host memory to the device; the host memory may go as soon as this returns.
void upload(void* to, const void* from, std::size_t bytes, void* stream);

}  // namespace hoirt::cuda
