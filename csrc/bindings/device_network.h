// A Network whose work a Python function enqueues on a stream of a device.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/network.h"

namespace hoirt::bindings {

class DeviceNetwork final : public Network {
 public:
  DeviceNetwork(std::vector<Port> inputs, std::vector<Port> outputs, pybind11::object function, Place place,
                bool capturable, std::vector<std::string> twins);
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  Place place() const override { return place_; }
  bool capturable() const override { return capturable_; }
  std::vector<std::string> twins() const override { return twins_; }
  // Takes the GIL. Exceptions of the function pass unchanged; a wrong result is a BackendError.
  void run(const TensorMap& inputs, TensorMap& outputs, void* stream) override;

 private:
  // The output of that name in what the function returned.
  Tensor returned(const pybind11::object& result, const Port& port) const;

  std::vector<Port> inputs_, outputs_;
  Place place_;
  bool capturable_;
  std::vector<std::string> twins_;
  std::shared_ptr<const void> owner_;  // of the function, released under the GIL
  pybind11::handle function_;
};

}  // namespace hoirt::bindings
