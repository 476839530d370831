// What the parts of the fake runtime share. Whoever reads or changes it holds `state().mutex`; work is done without it.
#pragma once

#include <cuda_runtime.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUmemPoolHandle_st {};

struct CUstream_st {
  std::deque<Work> pending;
  bool busy = false;  // some thread does a piece of its work
  std::thread::id worker;
  bool capturing = false, broken = false;
  std::vector<Work> captured;
};
// A point in a stream: once its work is done, `reached` is set.
struct CUevent_st {
  std::shared_ptr<bool> reached = std::make_shared<bool>(true);
  CUstream_st* stream = nullptr;
  bool captured = false;
};

namespace hoirt::test::runtime {

using Lock = std::unique_lock<std::mutex>;

struct Failure {
  int calls;  // until it comes
  cudaError_t error;
};
struct State {
  std::mutex mutex;
  std::condition_variable moved;  // a piece of work is done
  std::vector<std::string> faults;
  std::map<std::string, Failure> failures;
  std::map<int, CUstream_st> default_streams;
  int waits = 0, graph_size = 0;
};
State& state();

// The calling thread's, as in CUDA.
int& current_device();
cudaError_t give(cudaError_t error);  // the last error, if it is one
cudaError_t injected(const char* name);

// The stream itself, or the current device's default stream.
CUstream_st& stream_of(cudaStream_t stream);
// For later, or for the graph that the stream records.
void enqueue(CUstream_st& stream, Work work);
// Does the stream's work, in its order, until `enough`; not from inside of a piece of it, which would wait for itself.
void run(Lock& lock, CUstream_st& stream, const std::function<bool()>& enough);
void run_all(Lock& lock, CUstream_st& stream);
// What waits, or belongs to no graph, ends the capture of the stream.
cudaError_t outside(CUstream_st& stream, const std::string& what);

}  // namespace hoirt::test::runtime
