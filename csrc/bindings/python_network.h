// A Network whose work is done by a Python function.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "engine/network.h"

namespace hoirt::bindings {

class PythonNetwork final : public Network {
 public:
  PythonNetwork(std::vector<Port> inputs, std::vector<Port> outputs, pybind11::object function);
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  // Takes the GIL. Exceptions of the function pass unchanged; a wrong result is a BackendError.
  void run(const TensorMap& inputs, TensorMap& outputs, void* stream) override;

 private:
  std::vector<Port> inputs_, outputs_;
  std::shared_ptr<const void> owner_;  // of the function, released under the GIL
  pybind11::handle function_;
};

}  // namespace hoirt::bindings
