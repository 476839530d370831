// Port, Network, PythonNetwork, DeviceNetwork, Backend and open_backend() for Python.
#include "engine/network.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <memory>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/device_network.h"
#include "csrc/bindings/device_tensor.h"
#include "csrc/bindings/module.h"
#include "csrc/bindings/python_network.h"
#include "engine/backend_loader.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

Port make_port(std::string name, const IntegerSequence& shape, const std::string& dtype) {
  Port port{std::move(name), shape_from(shape, "shape"), dtype_from(dtype)};
  for (const std::int64_t extent : port.shape) {
    if (extent < -1) throw InputError("the extents of a port must be -1 (any) or more, not " + to_string(port.shape));
  }
  return port;
}

// On a device, on the device's own stream.
py::typing::Dict<py::str, py::array> run_network(Network& network, const ArrayMap& inputs) {
  const Place place = network.place();
  TensorMap given = arguments_from(inputs, "inputs", place);
  const std::shared_ptr<Device> device = place.host() ? nullptr : device_of(place);
  TensorMap outputs;
  for (const Port& port : network.outputs()) outputs.emplace(port.name, Tensor());
  std::shared_ptr<const Event> ready;
  {
    const py::gil_scoped_release release;
    check_inputs(network.inputs(), given);
    if (device) {
      for (auto& [name, tensor] : given) tensor = resident(tensor, device->stream());
    }
    if (device) {
      device->stream().call([&] { network.run(given, outputs, device->stream().handle()); });
      ready = device->stream().record();
    } else {
      network.run(given, outputs);
    }
  }
  py::typing::Dict<py::str, py::array> arrays;
  for (const auto& [name, tensor] : outputs) {
    arrays[py::str(name)] = device ? py::cast(DeviceTensor{tensor, ready}) : py::object(view_of(tensor));
  }
  return arrays;
}

std::shared_ptr<DeviceNetwork> make_device_network(std::vector<Port> inputs, std::vector<Port> outputs,
                                                   const DeviceFunction& fn, const std::string& device, bool capturable,
                                                   std::vector<std::string> twins) {
  return std::make_shared<DeviceNetwork>(std::move(inputs), std::move(outputs), fn, place_from(device), capturable,
                                         std::move(twins));
}

std::shared_ptr<Network> open_network(Backend& backend, std::string path, std::string cache_path,
                                      std::map<std::string, Shape> shapes, std::string precision, int threads) {
  const NetworkOptions options{std::move(path), std::move(cache_path), std::move(shapes), std::move(precision), threads};
  return backend.open(options);
}

}  // namespace

void register_network(py::module_& module) {
  py::class_<Port>(module, "Port", "The name, shape (-1: any extent) and dtype of a network's input or output.")
      .def(py::init(&make_port), py::arg("name"), py::arg("shape"), py::arg("dtype") = "float32")
      .def_readonly("name", &Port::name)
      .def_property_readonly("shape", [](const Port& self) { return tuple_from(self.shape); })
      .def_property_readonly("dtype", [](const Port& self) { return to_string(self.dtype); })
      .def("__repr__", [](const Port& self) {
        return "Port('" + self.name + "', " + to_string(self.shape) + ", " + to_string(self.dtype) + ")";
      });
  py::class_<Network, std::shared_ptr<Network>>(module, "Network", py::release_gil_before_calling_cpp_dtor(),
                                                "A compiled model. Thread-safe; the GIL is released while it runs.")
      .def_property_readonly("inputs", &Network::inputs)
      .def_property_readonly("outputs", &Network::outputs)
      .def("run", &run_network, py::arg("inputs"),
           "All outputs by name for `inputs`, which names every input; those of a network on a device are DeviceTensors, in\n"
           "the order of the device's own stream. Raises InputError or BackendError.")
      .def_property_readonly("device", [](const Network& self) { return to_string(self.place()); },
                             "Where it runs: \"cpu\" or \"cuda:0\".")
      .def_property_readonly("capturable", &Network::capturable, "Whether its work may be recorded as a CUDA graph.")
      .def_property_readonly("twins", &Network::twins,
                             "Inputs that may come with half of the items, all of them or none, where both halves of the\n"
                             "batch are alike in them.");
  py::class_<PythonNetwork, Network, std::shared_ptr<PythonNetwork>>(
      module, "PythonNetwork", py::release_gil_before_calling_cpp_dtor(),
      "A network whose work is done by `fn(dict of arrays) -> dict of arrays`; its arrays are views that are valid\n"
      "during the call only. Exceptions of `fn` reach the caller unchanged.")
      .def(py::init<std::vector<Port>, std::vector<Port>, NetworkFunction>(), py::arg("inputs"), py::arg("outputs"),
           py::arg("fn"));
  py::class_<DeviceNetwork, Network, std::shared_ptr<DeviceNetwork>>(
      module, "DeviceNetwork", py::release_gil_before_calling_cpp_dtor(),
      "A network whose work `fn(inputs, outputs, stream)` enqueues on `stream`, a cudaStream_t as an integer (0 on the\n"
      "CPU, where it is done at once). `inputs` and `outputs` are dicts by name of DeviceTensors, or of NumPy views on the\n"
      "CPU, bfloat16 as uint16; they are valid during the call only. `fn` fills the outputs that it is given in place, and\n"
      "returns those given as None, as any DLPack arrays, in a dict; they are borrowed without a copy.\n\n"
      "If it is `capturable`, `fn` is also called inside of a stream capture, whose replays do not call it again. Memory\n"
      "that it takes then is written by every replay: it must stay its own until the network goes, and other captures\n"
      "must not share it (torch: a torch.cuda.MemPool for each).\n"
      "`twins` names inputs that `fn` also takes with half of the items: the denoise loop gives them so where both halves\n"
      "of a guided batch are alike in all of them. Exceptions of `fn` reach the caller unchanged.")
      .def(py::init(&make_device_network), py::arg("inputs"), py::arg("outputs"), py::arg("fn"), py::kw_only(),
           py::arg("device"), py::arg("capturable") = true, py::arg("twins") = std::vector<std::string>{});
  py::class_<Backend, std::shared_ptr<Backend>>(module, "Backend", py::release_gil_before_calling_cpp_dtor(),
                                                "Opens networks on one runtime.")
      .def_property_readonly("name", &Backend::name)
      .def_property_readonly("version", &Backend::version)
      .def_property_readonly("precisions", &Backend::precisions,
                             "Those that this machine can run, such as \"bf16\", the fastest first; always with \"fp32\".")
      .def("open", &open_network, py::arg("path"), py::kw_only(), py::arg("cache_path") = "",
           py::arg("shapes") = std::map<std::string, Shape>{}, py::arg("precision") = "fp32", py::arg("threads") = 0,
           py::call_guard<py::gil_scoped_release>(),
           "The network of the ONNX file `path`; `cache_path` names a compiled blob to read or to write, `shapes` fixes\n"
           "input shapes, `precision` is fp32, bf16, fp16 or int8, `threads` 0 means all cores. Raises BackendError.");
  module.def("open_backend", &load_backend, py::arg("path"), py::call_guard<py::gil_scoped_release>(),
             "The backend in the shared object `path`. Raises BackendError with the loader's reason.");
}

}  // namespace hoirt::bindings
