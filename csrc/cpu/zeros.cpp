// zeros() by calloc, with a request for large pages on Linux.
#include "csrc/cpu/zeros.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace hoirt::cpu {

Tensor zeros(const Shape& shape, DType dtype) {
  constexpr std::size_t alignment = 64;
  const std::size_t bytes = element_count(shape) * item_size(dtype);
  const std::shared_ptr<void> memory(std::calloc(bytes + alignment, 1), std::free);
  if (!memory) throw OutOfMemory("a picture of shape " + to_string(shape) + " does not fit into memory");
#ifdef __linux__
  constexpr std::size_t page = std::size_t{1} << 21;
  const std::size_t skipped = page - reinterpret_cast<std::uintptr_t>(memory.get()) % page;
  if (bytes > skipped + page) {
    madvise(static_cast<std::byte*>(memory.get()) + skipped, (bytes - skipped) / page * page, MADV_HUGEPAGE);
  }
#endif
  void* aligned = memory.get();
  std::size_t space = bytes + alignment;
  return Tensor::borrow(std::align(alignment, bytes, aligned, space), shape, dtype, memory);
}

}  // namespace hoirt::cpu
