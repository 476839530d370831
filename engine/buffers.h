// Workspace: the named buffers of one run, its stream and its graphs. WorkspacePool: keeps them between runs, per shape,
// for any number of threads.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/device.h"
#include "engine/graphs.h"
#include "engine/tensor.h"

namespace hoirt {

class Workspace {
 public:
  explicit Workspace(Device& device) : stream_(device.make_stream()) {}

  // The buffer of that name; the same memory as last time if shape and dtype are the same, else fresh memory.
  Tensor& get(const std::string& name, const Shape& shape, DType dtype = DType::f32);
  // The tensor of that name, empty until someone keeps one there.
  Tensor& kept(const std::string& name) { return tensors_[name]; }

  Stream& stream() { return *stream_; }
  GraphCache& graphs() { return graphs_; }

 private:
  std::unique_ptr<Stream> stream_;  // goes last
  std::map<std::string, Tensor> tensors_;
  GraphCache graphs_;
};

class WorkspacePool {
 public:
  struct GiveBack {
    WorkspacePool* pool = nullptr;
    Shape shape;
    std::size_t generation = 0;
    void operator()(Workspace* workspace) const noexcept;
  };
  // Goes back to the pool when it ends; must not outlive the pool.
  using Lease = std::unique_ptr<Workspace, GiveBack>;

  explicit WorkspacePool(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  // A workspace last used for `shape`, or a new one. Thread-safe.
  Lease take(const Shape& shape);
  std::size_t idle() const;
  // Frees the idle workspaces. Thread-safe.
  void free_idle();
  // The same, and frees those in use when they come back. Thread-safe.
  void clear();

  Device& device() const { return *device_; }

 private:
  struct Idle {
    Shape shape;
    std::unique_ptr<Workspace> workspace;
  };
  static constexpr std::size_t most_idle = 8;  // the workspace idle for longest goes first

  std::shared_ptr<Device> device_;
  mutable std::mutex mutex_;
  std::list<Idle> idle_;  // most recently used first
  std::size_t generation_ = 0;
};

}  // namespace hoirt
