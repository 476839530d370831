// What every network checks about its ports.
#include "engine/network.h"

#include <algorithm>

namespace hoirt {

const Port* find_port(const std::vector<Port>& ports, const std::string& name) {
  const auto found = std::ranges::find(ports, name, &Port::name);
  return found == ports.end() ? nullptr : &*found;
}

std::string port_names(const std::vector<Port>& ports) {
  std::string text;
  for (const Port& port : ports) text += (text.empty() ? "" : ", ") + port.name;
  return text;
}

void check_port(const Port& port, const Tensor& tensor) {
  if (tensor.dtype() != port.dtype) {
    throw InputError(port.name + " must hold " + to_string(port.dtype) + ", not " + to_string(tensor.dtype()));
  }
  bool fits = tensor.rank() == port.shape.size();
  for (std::size_t axis = 0; fits && axis < port.shape.size(); ++axis) {
    fits = port.shape[axis] < 0 || port.shape[axis] == tensor.dim(axis);
  }
  if (!fits) {
    throw InputError(port.name + " must have shape " + to_string(port.shape) + " (-1: any), not " +
                     to_string(tensor.shape()));
  }
}

void check_inputs(const std::vector<Port>& ports, const TensorMap& inputs) {
  for (const auto& [name, tensor] : inputs) {
    const Port* port = find_port(ports, name);
    if (!port) throw InputError("the network has no input '" + name + "'; it has " + port_names(ports));
    check_port(*port, tensor);
  }
  for (const Port& port : ports) {
    if (!inputs.contains(port.name)) throw InputError("the input '" + port.name + "' is missing");
  }
}

}  // namespace hoirt
