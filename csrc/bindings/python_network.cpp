// A Network whose work is done by a Python function.
#include "csrc/bindings/python_network.h"

#include <cstring>
#include <utility>

#include "csrc/bindings/convert.h"

namespace py = pybind11;

namespace hoirt::bindings {

PythonNetwork::PythonNetwork(std::vector<Port> inputs, std::vector<Port> outputs, py::object function)
    : inputs_(std::move(inputs)), outputs_(std::move(outputs)), function_(function) {
  if (PyCallable_Check(function.ptr()) == 0) throw InputError("fn must be callable");
  owner_ = owner_of(std::move(function));
}

void PythonNetwork::run(const TensorMap& inputs, TensorMap& outputs, void*) {
  check_inputs(inputs_, inputs);
  const py::gil_scoped_acquire gil;
  py::dict arrays;
  for (const auto& [name, tensor] : inputs) arrays[py::str(name)] = array_from(tensor);
  const py::object result = function_(arrays);
  for (auto& [name, target] : outputs) {
    const Port* port = find_port(outputs_, name);
    if (!port) throw InputError("the network has no output '" + name + "'; it has " + port_names(outputs_));
    try {
      if (!py::isinstance<py::dict>(result) || !result.contains(name)) {
        throw InputError("it must be a dict that holds it");
      }
      const Tensor value = tensor_from(result[py::str(name)], "it");
      check_port(*port, value);
      if (!target.raw()) target = Tensor(value.shape(), value.dtype());
      if (target.shape() != value.shape() || target.dtype() != value.dtype()) {
        throw InputError("it must be " + to_string(target.dtype()) + " " + to_string(target.shape()) + ", not " +
                         to_string(value.dtype()) + " " + to_string(value.shape()));
      }
      if (value.bytes() > 0) std::memcpy(target.raw(), value.raw(), value.bytes());
    } catch (const InputError& error) {
      throw BackendError("the network's function returned a wrong '" + name + "': " + error.what());
    }
  }
}

}  // namespace hoirt::bindings
