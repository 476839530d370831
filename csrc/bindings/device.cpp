// Device and open_device() for Python.
#include "engine/device.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/device_tensor.h"
#include "csrc/bindings/module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

DeviceTensor upload(Device& device, const ArrayLike& array) {
  const Tensor source = argument_from(array, "array", device.place());
  // What was there is ready when its producer says so, for which the device's stream waits already.
  if (source.place() == device.place()) return {source, device.stream().record()};
  const py::gil_scoped_release release;
  Tensor target = device.stream().allocate(source.shape(), source.dtype());
  device.stream().copy(source, target);
  return {target, device.stream().record()};
}

DeviceTensor empty(Device& device, const IntegerSequence& shape, const std::string& dtype, std::uintptr_t stream) {
  const Shape extents = shape_from(shape, "shape");
  const DType type = dtype_from(dtype);
  const py::gil_scoped_release release;
  const DeviceTensor made{device.stream().allocate(extents, type), device.stream().record()};
  // It may be memory that others are only just done with, behind which the device's own stream is.
  if (stream != 0) made.ready->make_wait(reinterpret_cast<void*>(stream));
  return made;
}

void copy(Device& device, const ArrayLike& from, DeviceTensor& to) {
  const Tensor source = argument_from(from, "source", device.place());
  Tensor target = to.tensor;
  if (target.place() != device.place()) throw InputError("target must lie on " + to_string(device.place()));
  if (source.shape() != target.shape() || source.dtype() != target.dtype()) {
    throw InputError("source must be like the target, " + to_string(target.dtype()) + " " + to_string(target.shape()) + ", not " +
                     to_string(source.dtype()) + " " + to_string(source.shape()));
  }
  {
    const py::gil_scoped_release release;
    device.stream().copy(source, target);
  }
  to.ready = device.stream().record();
}

py::object call(Device& device, const py::typing::Callable<py::object()>& fn) {
  py::object result;
  const py::gil_scoped_release release;
  device.stream().call([&] {
    const py::gil_scoped_acquire gil;
    result = fn();
  });
  return result;
}

void with_idle_streams(Device& device, const py::typing::Callable<void(std::vector<std::uintptr_t>)>& fn) {
  const py::gil_scoped_release release;
  device.with_idle_streams([&](const std::vector<void*>& streams) {
    const py::gil_scoped_acquire gil;
    py::list handles;
    for (void* stream : streams) handles.append(reinterpret_cast<std::uintptr_t>(stream));
    fn(handles);
  });
}

std::shared_ptr<Device> open_device(const std::string& name, const std::string& path) {
  const Place place = place_from(name);
  if (place.host()) return host_device();
  std::string library = path;
  if (library.empty()) {
    library = py::cast<std::string>(py::module_::import("hoirt.backends.devices").attr("library")());
  }
  const py::gil_scoped_release release;
  return load_device(library, place.index);
}

}  // namespace

void register_device(py::module_& module) {
  py::class_<Device, std::shared_ptr<Device>>(module, "Device", py::release_gil_before_calling_cpp_dtor(),
                                              "Where tensors live and kernels run: the CPU or a GPU. Thread-safe.")
      .def_property_readonly("name", &Device::name, "Of the model.")
      .def_property_readonly("device", [](const Device& self) { return to_string(self.place()); },
                             "\"cpu\" or \"cuda:0\".")
      .def_property_readonly("no_graphs", &Device::no_graphs, "Why it records no graphs, or \"\".")
      .def(
          "memory",
          [](const Device& self) {
            const Device::Memory memory = self.memory();
            return std::pair(memory.free, memory.total);
          },
          "Free and total memory in bytes.")
      .def("upload", &upload, py::arg("array"),
           "The array on this device, in the order of its stream(); what is there already is shared, not copied.")
      .def("copy", &copy, py::arg("source"), py::arg("target"),
           "The values of an array into a DeviceTensor of its shape and dtype, in the order of stream().")
      .def("empty", &empty, py::arg("shape"), py::arg("dtype") = "float32", py::kw_only(), py::arg("stream") = 0,
           "Memory with any content, for work on stream(), or on `stream` too (a cudaStream_t as an integer). What was\n"
           "enqueued on that one must be done before the memory is given back.")
      .def(
          "zeros",
          [](Device& self, const IntegerSequence& shape, const std::string& dtype) {
            DeviceTensor made = empty(self, shape, dtype, 0);
            {
              const py::gil_scoped_release release;
              self.stream().clear(made.tensor);
            }
            made.ready = self.stream().record();
            return made;
          },
          py::arg("shape"), py::arg("dtype") = "float32", "Memory full of zeros.")
      .def("synchronize", [](Device& self) { self.stream().synchronize(); }, py::call_guard<py::gil_scoped_release>(),
           "Waits for all that was enqueued on stream(). Raises BackendError if it failed.")
      .def("stream", [](Device& self) { return reinterpret_cast<std::uintptr_t>(self.stream().handle()); },
           "The device's own stream, for what belongs to no run: a cudaStream_t as an integer, 0 on the CPU.")
      .def("call", &call, py::arg("fn"),
           "What `fn()` returns, which opens a network or does the like; no step is recorded meanwhile, whereas what runtimes\n"
           "do then would end a recording.")
      .def("with_idle_streams", &with_idle_streams, py::arg("fn"),
           "Calls `fn(streams)` with the streams, cudaStream_t as integers, that no run has; none gets one meanwhile, so what\n"
           "is kept for them may be freed.")
      .def("trim", &Device::trim, py::call_guard<py::gil_scoped_release>(),
           "Gives memory that is kept for later use back to the system.")
      .def("__repr__", [](const Device& self) { return "Device('" + to_string(self.place()) + "', " + self.name() + ")"; });
  module.def("open_device", &open_device, py::arg("name"), py::arg("path") = "",
             "The device \"cpu\" or \"cuda:N\"; `path` is the shared object of CUDA devices, by default the one of this\n"
             "installation. hoirt.backends.devices opens each device once. Raises InputError or BackendError.");
}

}  // namespace hoirt::bindings
