// Splits a range of pixels over threads; every piece is the same whatever the number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace hoirt::cpu {

// Calls body(i) for i in 0..count - 1 on up to `threads` threads (0: all cores). The first exception is thrown again.
template <typename Body>
void run_pieces(std::int64_t count, int threads, const Body& body) {
  const std::int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::int64_t workers = std::min(count, threads > 0 ? std::int64_t{threads} : cores);
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;
  std::mutex guard;
  const auto work = [&] {
    try {
      for (std::int64_t i = next++; i < count; i = next++) body(i);
    } catch (...) {
      const std::lock_guard lock(guard);
      if (!error) error = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::int64_t i = 1; i < workers; ++i) {
      try {
        others.emplace_back(work);
      } catch (const std::system_error&) {
        break;  // no more threads to be had: those that run do the rest
      }
    }
    work();
  }
  if (error) std::rethrow_exception(error);
}

// body(begin, end) over pieces of `piece` items that cover 0..count.
template <typename Body>
void run_spans(std::int64_t count, int threads, const Body& body) {
  constexpr std::int64_t piece = 1 << 16;
  run_pieces((count + piece - 1) / piece, threads,
             [&](std::int64_t i) { body(i * piece, std::min(count, (i + 1) * piece)); });
}

}  // namespace hoirt::cpu
