// What rewrites of a graph ask of it: users of a value, and pictures with their channels first or last.
#pragma once

#include <memory>
#include <openvino/core/node.hpp>

namespace hoirt::openvino {

// The only user of an output besides those that ask for its shape; null if there is none or more.
std::shared_ptr<ov::Node> only_user(const ov::Output<ov::Node>& output);

// Between the graph's pictures, (N, C, H, W) float32, and our nodes', (N, H, W, C) bf16.
ov::Output<ov::Node> channels_last(const ov::Output<ov::Node>& picture);
std::shared_ptr<ov::Node> channels_first(const ov::Output<ov::Node>& picture);

}  // namespace hoirt::openvino
