// for_each_item: the items 0..count - 1 on several threads, each taking the next one when it is done.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace hoirt::raster {

// `make_worker()` is called once per thread and returns a function of an item, so that a worker may keep scratch memory.
// The first exception ends the work and is thrown here.
template <typename MakeWorker>
void for_each_item(std::int64_t count, int threads, const MakeWorker& make_worker) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failing;
  const auto work = [&] {
    try {
      auto worker = make_worker();
      for (std::int64_t item = next++; item < count; item = next++) worker(item);
    } catch (...) {
      const std::lock_guard lock(failing);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> helpers;
    const std::int64_t wanted = std::min<std::int64_t>(threads, count) - 1;
    try {
      for (std::int64_t i = 0; i < wanted; ++i) helpers.emplace_back(work);
    } catch (const std::system_error&) {
      // The system gives no more threads: those that run do all the work.
    }
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

inline int thread_count(int asked) {
  return asked > 0 ? asked : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace hoirt::raster
