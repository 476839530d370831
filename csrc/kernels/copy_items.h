// Copies inside of a device: items of a batch, one for all or each its own, and values repeated along axes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"
#include "csrc/kernels/step_row.h"

namespace hoirt::kernels {

// `items` items of `item_bytes` each. With `row`, those of the current step in a table of rows.
struct CopyItems {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::int64_t items = 0, item_bytes = 0;
  std::int64_t stride = 0;        // bytes between items of `from`; 0: one item for all
  const StepRow* row = nullptr;   // null: `from` is where they begin
  std::int64_t row_bytes = 0;     // bytes between rows of `from`

  // The widest access, 16 bytes or less, that fits every address; the last bytes of an item may need narrower ones.
  HOIRT_HD int width() const {
    const std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(to) |
                                static_cast<std::uintptr_t>(stride) | static_cast<std::uintptr_t>(row ? row_bytes : 0) |
                                static_cast<std::uintptr_t>(items > 1 ? item_bytes : 0);
    for (int bytes = 16; bytes > 1; bytes /= 2) {
      if ((bits & static_cast<std::uintptr_t>(bytes - 1)) == 0) return bytes;
    }
    return 1;
  }
  // Pieces of `width` bytes in an item; the last may be shorter.
  HOIRT_HD std::int64_t pieces(int bytes) const { return (item_bytes + bytes - 1) / bytes; }

  // One piece of one item.
  template <int bytes>
  HOIRT_HD void operator()(std::int64_t item, std::int64_t piece) const {
    using Piece = Pack<std::byte, bytes>;
    const std::int64_t offset = piece * bytes;
    const std::byte* source = from + (row ? row->index * row_bytes : 0) + item * stride + offset;
    std::byte* target = to + item * item_bytes + offset;
    if (offset + bytes <= item_bytes) {
      *reinterpret_cast<Piece*>(target) = *reinterpret_cast<const Piece*>(source);
    } else {
      for (std::int64_t i = 0; i < item_bytes - offset; ++i) target[i] = source[i];
    }
  }
};

// Values repeated along the axes whose stride is 0.
struct Broadcast {
  static constexpr int most_axes = 16;
  const float* from = nullptr;
  float* to = nullptr;
  std::int64_t size = 0;  // of `to`
  int axes = 0;
  std::int64_t extent[most_axes] = {};  // of `to`
  std::int64_t stride[most_axes] = {};  // in `from`

  HOIRT_HD void operator()(std::int64_t i) const {
    std::int64_t offset = 0, rest = i;
    for (int axis = axes - 1; axis >= 0; --axis) {
      offset += rest % extent[axis] * stride[axis];
      rest /= extent[axis];
    }
    to[i] = from[offset];
  }
};

}  // namespace hoirt::kernels
