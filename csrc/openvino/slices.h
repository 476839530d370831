// What a slice takes of the last axis.
#pragma once

#include <cstdint>
#include <openvino/opsets/opset13.hpp>
#include <optional>

namespace hoirt::openvino {

struct Columns {
  std::int64_t start, stop;
};

// Of a last axis of `width`, if the slice takes all of the others.
std::optional<Columns> columns_of(const ov::opset13::Slice& node, std::int64_t width, const ov::ParameterVector& parameters);

}  // namespace hoirt::openvino
