// Workspace and WorkspacePool.
#include "engine/buffers.h"

#include <algorithm>
#include <new>
#include <utility>

namespace hoirt {

Tensor& Workspace::get(const std::string& name, const Shape& shape, DType dtype) {
  Tensor& tensor = tensors_[name];
  if (!tensor.raw() || tensor.shape() != shape || tensor.dtype() != dtype) {
    tensor = Tensor();  // the old memory goes before the new is asked for
    tensor = Tensor(shape, dtype);
  }
  return tensor;
}

WorkspacePool::Lease WorkspacePool::take(const Shape& shape) {
  std::unique_ptr<Workspace> workspace;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(idle_, shape, &Idle::shape);
    if (found != idle_.end()) {
      workspace = std::move(found->workspace);
      idle_.erase(found);
    }
  }
  if (!workspace) workspace = std::make_unique<Workspace>();
  return Lease(workspace.release(), GiveBack{this, shape});
}

std::size_t WorkspacePool::idle() const {
  const std::lock_guard lock(mutex_);
  return idle_.size();
}

void WorkspacePool::GiveBack::operator()(Workspace* workspace) const noexcept {
  std::unique_ptr<Workspace> owned(workspace);
  try {
    const std::lock_guard lock(pool->mutex_);
    pool->idle_.push_front({shape, std::move(owned)});
    if (pool->idle_.size() > most_idle) pool->idle_.pop_back();
  } catch (const std::bad_alloc&) {
    // Without memory for the list node the workspace is simply freed.
  }
}

}  // namespace hoirt
