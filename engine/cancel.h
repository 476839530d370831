// CancelToken: asks a run, from any thread, to stop at its next step.
#pragma once

#include <atomic>

namespace hoirt {

class CancelToken {
 public:
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_ = false;
};

}  // namespace hoirt
