// Parallel: how a CPU kernel asks its caller for threads.
#pragma once

#include <cstdint>
#include <functional>

namespace hoirt::cpu {

using Range = std::function<void(std::int64_t begin, std::int64_t end)>;
// Calls body(begin, end) on parts that cover 0 .. count - 1, from any number of threads, and returns when all are done.
using Parallel = std::function<void(std::int64_t count, const Range& body)>;

}  // namespace hoirt::cpu
