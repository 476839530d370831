// The scratch memory of a plan in one block: a plan that is run by a Counting tells how large it must be.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hoirt::kernels {

// Gives pieces of a block of memory one after another, each at a multiple of 256 bytes, as the block is.
class Workspace {
 public:
  explicit Workspace(void* memory) : begin_(reinterpret_cast<std::uintptr_t>(memory)) {}
  void* take(std::size_t bytes) {
    constexpr std::size_t alignment = 256;
    void* const given = reinterpret_cast<void*>(begin_ + used_);
    used_ += (bytes + alignment - 1) / alignment * alignment;
    return given;
  }
  std::size_t used() const { return used_; }

 private:
  std::uintptr_t begin_;
  std::size_t used_ = 0;
};

// A runner of plans that launches nothing.
class Counting {
 public:
  static constexpr bool wide = true;
  void* scratch(std::size_t bytes) { return workspace_.take(bytes); }
  void copy(void*, const void*, std::size_t) {}
  template <typename Body>
  void launch(const Body&, std::int64_t) {}
  template <typename Body>
  void launch(const Body&, std::int64_t, std::int64_t) {}
  std::size_t bytes() const { return workspace_.used(); }

 private:
  Workspace workspace_{nullptr};
};

// Bytes of scratch memory of a plan, a function of a runner.
template <typename Plan>
std::size_t workspace_bytes(const Plan& plan) {
  Counting counting;
  plan(counting);
  return counting.bytes();
}

}  // namespace hoirt::kernels
