// Runner: what the plans of csrc/kernels need on a CUDA device, on a queue.
#pragma once

#include <memory>
#include <vector>

#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/memory.h"

namespace hoirt::cuda {

class Runner {
 public:
  static constexpr bool wide = true;
  Runner(const Queue& queue, const char* what) : queue_(queue), what_(what) {}
  void* scratch(std::size_t bytes) { return memory_.emplace_back(cuda::scratch(bytes, queue_)).get(); }
  void copy(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(queue_.stream)), "a copy failed");
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t count) {
    cuda::launch(body, count, queue_.stream, what_);
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t rows, std::int64_t columns) {
    cuda::launch(body, rows, columns, queue_.stream, what_);
  }

 private:
  Queue queue_;
  const char* what_;  // went wrong
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace hoirt::cuda
