// Runner: what the plans of csrc/kernels need on a CUDA device, on a stream.
#pragma once

#include <memory>

#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/memory.h"
#include "csrc/kernels/workspace.h"

namespace hoirt::cuda {

class Runner {
 public:
  static constexpr bool wide = true;
  // `what` went wrong if a launch fails. `workspace`: as much as the plan counts.
  Runner(void* stream, const char* what, void* workspace = nullptr) : stream_(stream), what_(what), workspace_(workspace) {}
  void* scratch(std::size_t bytes) { return workspace_.take(bytes); }
  void copy(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream_)), "a copy failed");
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t count) {
    cuda::launch(body, count, stream_, what_);
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t rows, std::int64_t columns) {
    cuda::launch(body, rows, columns, stream_, what_);
  }

 private:
  void* stream_;
  const char* what_;
  kernels::Workspace workspace_;
};

// Runs a plan with scratch memory of the queue's pool.
template <typename Plan>
void run_plan(const Plan& plan, const Queue& queue, const char* what) {
  const std::size_t bytes = kernels::workspace_bytes(plan);
  const std::shared_ptr<void> workspace = bytes > 0 ? scratch(bytes, queue) : nullptr;
  Runner runner(queue.stream, what, workspace.get());
  plan(runner);
}

}  // namespace hoirt::cuda
