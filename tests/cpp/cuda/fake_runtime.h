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

// The next call of that name fails with `error`.
void fail_next(const std::string& name, cudaError_t error);

// Enqueues a kernel's work. What it does with memory it may tell while it does it.
void enqueue(cudaStream_t stream, std::function<void()> work);
void check_use(const void* address, std::size_t bytes);

// Whether the stream records a graph.
bool is_recording(cudaStream_t stream);
// How many pieces of work the last graph that was made ready has.
int graph_size();

}  // namespace hoirt::test::runtime
