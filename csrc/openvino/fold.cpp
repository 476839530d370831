// The value of an expression in a model that does not depend on what its inputs hold.
#include "csrc/openvino/fold.h"

#include <openvino/pass/constant_folding.hpp>
#include <openvino/pass/manager.hpp>

namespace hoirt::openvino {

std::shared_ptr<ov::op::v0::Constant> fold(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters) {
  using ov::op::v0::Constant;
  if (auto constant = ov::as_type_ptr<Constant>(output.get_node_shared_ptr())) return constant;
  const auto part = std::make_shared<ov::Model>(ov::OutputVector{output}, parameters)->clone();
  ov::pass::Manager passes;
  passes.register_pass<ov::pass::ConstantFolding>();
  passes.run_passes(part);
  return ov::as_type_ptr<Constant>(part->get_results().at(0)->get_input_node_shared_ptr(0));
}

}  // namespace hoirt::openvino
