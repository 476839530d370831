// Runner: what the plans of csrc/kernels need on a CUDA device, on a stream, with scratch memory in its order.
#pragma once

#include <memory>
#include <vector>

#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/memory.h"

namespace hoirt::cuda {

class Runner {
 public:
  static constexpr bool wide = true;
  Runner(void* stream, const char* what) : stream_(stream), what_(what) {}
  void* scratch(std::size_t bytes) { return memory_.emplace_back(cuda::scratch(bytes, stream_)).get(); }
  void copy(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream_)), "a copy failed");
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t count) {
    cuda::launch(body, count, stream_, what_);
  }

 private:
  void* stream_;
  const char* what_;  // went wrong
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace hoirt::cuda
