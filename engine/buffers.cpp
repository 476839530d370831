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
    tensor = stream_->allocate(shape, dtype);
  }
  return tensor;
}

WorkspacePool::Lease WorkspacePool::take(const Shape& shape) {
  std::unique_ptr<Workspace> workspace;
  std::size_t generation = 0;
  {
    const std::lock_guard lock(mutex_);
    generation = generation_;
    const auto found = std::ranges::find(idle_, shape, &Idle::shape);
    if (found != idle_.end()) {
      workspace = std::move(found->workspace);
      idle_.erase(found);
    }
  }
  if (!workspace) workspace = std::make_unique<Workspace>(*device_);
  return Lease(workspace.release(), GiveBack{this, shape, generation});
}

std::size_t WorkspacePool::idle() const {
  const std::lock_guard lock(mutex_);
  return idle_.size();
}

void WorkspacePool::free_idle() {
  std::list<Idle> gone;  // freed when the lock is open again
  const std::lock_guard lock(mutex_);
  gone.swap(idle_);
}

void WorkspacePool::clear() {
  {
    const std::lock_guard lock(mutex_);
    ++generation_;
  }
  free_idle();
}

void WorkspacePool::GiveBack::operator()(Workspace* workspace) const noexcept {
  std::unique_ptr<Workspace> owned(workspace);
  std::list<Idle> gone;
  try {
    {
      const std::lock_guard lock(pool->mutex_);
      if (generation == pool->generation_) {
        pool->idle_.push_front({shape, std::move(owned)});
        if (pool->idle_.size() > most_idle) gone.splice(gone.begin(), pool->idle_, std::prev(pool->idle_.end()));
        return;
      }
    }
    // Cleared while it was in use: whoever did that wants the memory back.
    owned.reset();
    pool->device().trim();
  } catch (const std::exception&) {
    // Without memory for the list node the workspace is simply freed; a device that failed tells its next user.
  }
}

}  // namespace hoirt
