// Copies of items and broadcast values on the CPU; what the machine has of memory.
#include "csrc/kernels/copy_items.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "csrc/cpu/launchers.h"

namespace hoirt::cpu {

void copy_items(const kernels::CopyItems& copy) {
  if (copy.item_bytes == 0) return;
  const std::byte* from = copy.from + (copy.row ? copy.row->index * copy.row_bytes : 0);
  for (std::int64_t i = 0; i < copy.items; ++i) {
    std::memcpy(copy.to + i * copy.item_bytes, from + i * copy.stride, static_cast<std::size_t>(copy.item_bytes));
  }
}

// The functor's offsets, counted up instead of divided out.
void broadcast(const kernels::Broadcast& broadcast) {
  std::array<std::int64_t, kernels::Broadcast::most_axes> index{};
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < broadcast.size; ++i) {
    broadcast.to[i] = broadcast.from[offset];
    for (int axis = broadcast.axes - 1; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      offset += broadcast.stride[a];
      if (++index[a] < broadcast.extent[a]) break;
      offset -= broadcast.stride[a] * index[a];
      index[a] = 0;
    }
  }
}

Device::Memory memory() {
  const auto pages = [](int name) { return static_cast<std::size_t>(std::max(0L, sysconf(name))); };
  const std::size_t page = pages(_SC_PAGESIZE);
  return {pages(_SC_AVPHYS_PAGES) * page, pages(_SC_PHYS_PAGES) * page};
}

}  // namespace hoirt::cpu
