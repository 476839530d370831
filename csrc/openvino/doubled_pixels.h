// Finds pictures of which every pixel is repeated as 2x2.
#pragma once

#include <openvino/core/node.hpp>

namespace hoirt::openvino {

// The small picture; nothing (no node) if the output is not a doubled one with a single user.
ov::Output<ov::Node> before_doubling(const ov::Output<ov::Node>& output);

}  // namespace hoirt::openvino
