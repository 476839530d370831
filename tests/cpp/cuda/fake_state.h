// What the parts of the fake runtime share. Whoever reads or changes it holds `state().mutex`; work is done without it.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
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

// A graph that is recorded, by the stream that began it and by those that wait for its events.
struct Capture {
  std::vector<Work> work;  // one order that keeps to all waits: that of the calls
  std::vector<CUstream_st*> streams;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool broken = false, ended = false;
};
struct CUstream_st {
  std::deque<Work> pending;
  bool busy = false;  // some thread does a piece of its work
  std::thread::id worker;
  std::shared_ptr<Capture> capture;
  std::size_t recorded = 0, joined = 0;  // pieces of its work in the capture, and those that another stream waits for
};
// A point in a stream, at which its work arrives.
struct Point {
  bool reached = false;
  std::chrono::steady_clock::time_point when;
};
struct CUevent_st {
  std::shared_ptr<Point> point = std::make_shared<Point>(true);
  CUstream_st* stream = nullptr;
  std::shared_ptr<Capture> capture;  // in which it was recorded, after so many pieces of the stream's work
  std::size_t recorded = 0;
  int asked = 0;  // in vain
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
  std::set<CUstream_st*> streams;  // the others
  int waits = 0, graph_size = 0;
};
State& state();

// The calling thread's, as in CUDA.
int& current_device();
cudaError_t give(cudaError_t error);  // the last error, if it is one
cudaError_t injected(const char* name);

// Memory outside of pools: whether there are so many bytes that no pool keeps, the size of a block, and bytes that were freed.
bool has_room(std::size_t bytes);
std::size_t size_of(const void* address);
void give_back(std::size_t bytes);

// The stream itself, or the current device's default stream.
CUstream_st& stream_of(cudaStream_t stream);
// For later, or for the graph that the stream records.
void enqueue(CUstream_st& stream, Work work);
// Does the stream's work, in its order, until `enough`; not from inside of a piece of it, which would wait for itself.
void run(Lock& lock, CUstream_st& stream, const std::function<bool()>& enough);
void run_all(Lock& lock, CUstream_st& stream);
// What waits, or belongs to no graph, ends the capture of the stream.
cudaError_t outside(CUstream_st& stream, const std::string& what);
cudaError_t outside(Capture* capture, const std::string& what);
// What other threads' captures may forbid to this one, by the modes of both.
cudaError_t outside_of_all(const std::string& what);

}  // namespace hoirt::test::runtime
