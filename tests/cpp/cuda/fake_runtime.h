// The CUDA runtime without hardware, as far as csrc/cuda calls it: streams whose work is done as late as it may be, by its
// documented rules for captures, stream-ordered memory and copies. What breaks them is counted. Thread-safe.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace hoirt::test::runtime {

// What was done against the rules since the last call: memory used after it was freed, streams joined to a capture, ...
std::vector<std::string> take_faults();

// Blocks that were allocated and not freed, and calls that waited for a stream.
int live_blocks();
int waits();

// From now on the device has so many bytes more than are used or cached, 0: very many.
void limit(std::size_t bytes);

// The call of that name with that number, counted from 1, fails with `error`.
void fail(const std::string& name, int number, cudaError_t error);
inline void fail_next(const std::string& name, cudaError_t error) { fail(name, 1, error); }
// Takes back what did not fail yet; whether there was none of that.
bool calm();

// Enqueues a kernel's work, unless "cudaLaunchKernelEx" is to fail, or a function of the host.
cudaError_t launch(cudaStream_t stream, std::function<void()> kernel);
void enqueue(cudaStream_t stream, std::function<void()> work);
// For what is enqueued: whether it may use these bytes now is among the faults.
void check_use(const void* address, std::size_t bytes);

// Whether the stream records a graph.
bool is_recording(cudaStream_t stream);
// How many pieces of work the last graph that was made ready has.
int graph_size();

}  // namespace hoirt::test::runtime
