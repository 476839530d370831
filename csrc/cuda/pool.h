// Pool: a device's memory in the order of streams, and the streams of its runs.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "csrc/cuda/memory.h"

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

// It outlives the device, as memory and streams of it may.
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
  // A stream for a run, and its return when all its work is done; it is used again, as runtimes keep contexts and workspaces
  // for each stream that they have seen.
  std::shared_ptr<StreamHandle> take_stream();
  void return_stream(std::shared_ptr<StreamHandle> stream) noexcept;
  // Calls `work` with the streams that nobody has; whoever wants one meanwhile gets a new one.
  void with_idle_streams(const std::function<void(const std::vector<void*>&)>& work);
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

}  // namespace hoirt::cuda
