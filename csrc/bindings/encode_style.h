// The style of a drawn hand from Python's arguments; shared by _core and _core_cuda.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/raster/draw_hand.h"
#include "engine/error.h"

namespace hoirt::bindings {

// Copies (Rows, 3) colours into the style's table.
template <std::size_t Rows>
void copy_colours(const pybind11::object& object, const char* name, std::uint8_t (&table)[Rows][3]) {
  const Tensor colours = tensor_from(object, name, DType::u8);
  if (colours.shape() != Shape{static_cast<std::int64_t>(Rows), 3}) {
    throw InputError(std::string(name) + " must have shape (" + std::to_string(Rows) + ", 3), not " +
                     to_string(colours.shape()));
  }
  std::copy_n(colours.data<std::uint8_t>(), 3 * Rows, &table[0][0]);
}

inline raster::HandStyle style_from(bool lines, const Integer& joint_radius, const std::pair<int, int>& half_widths,
                                    const ArrayLike& joint_colours, const ArrayLike& limb_colours) {
  raster::HandStyle style;
  style.lines = lines;
  style.joint_radius = static_cast<int>(unsigned_from(joint_radius, "joint_radius", 100));
  style.thumb_half_width = half_widths.first;
  style.finger_half_width = half_widths.second;
  if (std::min(half_widths.first, half_widths.second) < 0 || std::max(half_widths.first, half_widths.second) > 100) {
    throw InputError("half_widths must lie in 0..100");
  }
  copy_colours(joint_colours, "joint_colours", style.joint_colours);
  copy_colours(limb_colours, "limb_colours", style.limb_colours);
  return style;
}

}  // namespace hoirt::bindings
