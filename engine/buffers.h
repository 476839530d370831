// Workspace: the named buffers of one run. WorkspacePool: keeps them between runs, per shape, for any number of threads.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/tensor.h"

namespace hoirt {

class Workspace {
 public:
  // The buffer of that name; the same memory as last time if shape and dtype are the same, else fresh memory.
  Tensor& get(const std::string& name, const Shape& shape, DType dtype = DType::f32);

 private:
  std::map<std::string, Tensor> tensors_;
};

class WorkspacePool {
 public:
  struct GiveBack {
    WorkspacePool* pool = nullptr;
    Shape shape;
    void operator()(Workspace* workspace) const noexcept;
  };
  // Goes back to the pool when it ends; must not outlive the pool.
  using Lease = std::unique_ptr<Workspace, GiveBack>;

  // A workspace last used for `shape`, or a new one. Thread-safe.
  Lease take(const Shape& shape);
  std::size_t idle() const;

 private:
  struct Idle {
    Shape shape;
    std::unique_ptr<Workspace> workspace;
  };
  static constexpr std::size_t most_idle = 8;  // the workspace idle for longest goes first

  mutable std::mutex mutex_;
  std::list<Idle> idle_;  // most recently used first
};

}  // namespace hoirt
