// Runs parts of a kernel on the threads that OpenVINO runs the node with.
#pragma once

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include "csrc/cpu/parallel.h"

namespace hoirt::openvino {

inline void on_threads(std::int64_t count, const cpu::Range& body) {
  const auto part = [&body](const tbb::blocked_range<std::int64_t>& range) { body(range.begin(), range.end()); };
  tbb::parallel_for(tbb::blocked_range<std::int64_t>(0, count), part, tbb::static_partitioner());
}

}  // namespace hoirt::openvino
