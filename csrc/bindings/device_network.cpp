// A Network whose work a Python function enqueues on a stream of a device.
#include "csrc/bindings/device_network.h"

#include <cstdint>
#include <utility>

#include "csrc/bindings/convert.h"
#include "csrc/bindings/device_tensor.h"
#include "csrc/bindings/dlpack_exchange.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

// Ctrl-C and its like inside of the function.
class PythonInterruption final : public py::error_already_set, public Interruption {
 public:
  explicit PythonInterruption(const py::error_already_set& error) : py::error_already_set(error) {}
};

}  // namespace

DeviceNetwork::DeviceNetwork(std::vector<Port> inputs, std::vector<Port> outputs, py::object function, Place place,
                             bool capturable, std::vector<std::string> twins)
    : inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      place_(place),
      capturable_(capturable),
      twins_(std::move(twins)),
      function_(function) {
  if (PyCallable_Check(function.ptr()) == 0) throw InputError("fn must be callable");
  for (const std::string& name : twins_) {
    if (!find_port(inputs_, name)) throw InputError("the network has no input '" + name + "' that could be a twin");
  }
  owner_ = owner_of(std::move(function));
}

void DeviceNetwork::run(const TensorMap& inputs, TensorMap& outputs, void* stream) {
  check_inputs(inputs_, inputs);
  const py::gil_scoped_acquire gil;
  py::dict given, wanted;
  for (const auto& [name, tensor] : inputs) {
    if (tensor.place() != place_) {
      throw InputError("the input '" + name + "' lies on " + to_string(tensor.place()) + ", the network on " +
                       to_string(place_));
    }
    given[py::str(name)] = shared_from(tensor);
  }
  for (const auto& [name, tensor] : outputs) {
    const Port* port = find_port(outputs_, name);
    if (!port) throw InputError("the network has no output '" + name + "'; it has " + port_names(outputs_));
    if (tensor.raw()) check_port(*port, tensor);
    wanted[py::str(name)] = tensor.raw() ? shared_from(tensor) : py::none();
  }
  py::object result;
  try {
    result = function_(given, wanted, reinterpret_cast<std::uintptr_t>(stream));
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_Exception)) throw;
    throw PythonInterruption(error);
  }
  for (auto& [name, tensor] : outputs) {
    if (tensor.raw()) {
      const bool again = py::isinstance<py::dict>(result) && result.contains(name);
      if (again && !result[py::str(name)].is(wanted[py::str(name)])) {
        throw BackendError("the network's function returned '" + name + "', which it was given to fill in place");
      }
    } else {
      tensor = returned(result, *find_port(outputs_, name));
    }
  }
}

Tensor DeviceNetwork::returned(const py::object& result, const Port& port) const {
  try {
    if (!py::isinstance<py::dict>(result) || !result.contains(port.name)) {
      throw InputError("it must be a dict that holds it, as it was given as None");
    }
    const py::object value = result[py::str(port.name)];
    Tensor tensor;
    if (py::isinstance<py::array>(value)) {
      py::object array = value;
      const bool is_bits = py::str(array.attr("dtype").attr("name")).equal(py::str("uint16"));
      if (port.dtype == DType::bf16 && is_bits) array = array.attr("view")("float16");
      tensor = tensor_from(array, "it");
      if (port.dtype == DType::bf16 && is_bits) {
        tensor = Tensor::borrow(tensor.raw(), tensor.shape(), DType::bf16, std::make_shared<Tensor>(tensor));
      }
    } else {
      // The function enqueued the work on our stream, so there is nothing to wait for.
      tensor = tensor_from_dlpack(value, "it", place_.host() ? py::object(py::none()) : py::int_(-1));
    }
    if (tensor.place() != place_) {
      throw InputError("it must lie on " + to_string(place_) + ", not on " + to_string(tensor.place()));
    }
    check_port(port, tensor);
    return tensor;
  } catch (const InputError& error) {
    throw BackendError("the network's function returned a wrong '" + port.name + "': " + error.what());
  }
}

}  // namespace hoirt::bindings
