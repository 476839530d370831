// The CUDA runtime without hardware, as far as csrc/cuda/device.cpp calls it: streams whose work is done as late as it may
// be, by its documented rules for captures and stream-ordered memory. What breaks them is counted.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <vector>

namespace hoirt::test::runtime {

// What was done against the rules: memory used after it was freed, streams joined to a capture, ...
std::vector<std::string>& faults();

// Blocks that were allocated and not freed, and calls that waited for a stream.
int live_blocks();
int waits();

// The next call of that name fails with `error`.
void fail_next(const std::string& name, cudaError_t error);

// Enqueues a write of the block by a kernel.
void touch(void* block, void* stream);

// How many pieces of work the last graph that was made ready has.
int graph_size();

}  // namespace hoirt::test::runtime
