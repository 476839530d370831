// DeviceTensor for Python, and arguments that lie on a device.
#include "csrc/bindings/device_tensor.h"

#include <pybind11/stl.h>

#include <optional>
#include <utility>

#include "csrc/bindings/convert.h"
#include "csrc/bindings/dlpack_exchange.h"
#include "csrc/bindings/module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

// How DLPack and CUDA write the default stream, whose handle is null.
constexpr std::intptr_t legacy_stream = 1;

py::object stream_argument(Device& device) {
  if (device.place().host()) return py::none();
  const auto handle = reinterpret_cast<std::intptr_t>(device.stream().handle());
  return py::int_(handle ? handle : legacy_stream);
}

py::capsule to_dlpack(const DeviceTensor& self, const py::object& stream,
                      const std::optional<std::pair<int, int>>& max_version,
                      const std::optional<std::pair<int, int>>& device, const std::optional<bool> copy) {
  const Place place = self.tensor.place();
  if (copy.value_or(false) || (device && *device != dlpack_device(place))) {
    throw py::buffer_error("a DeviceTensor is exported without a copy, on " + to_string(place) + " only");
  }
  if (place.host()) {
    if (!stream.is_none()) throw InputError("a tensor on the CPU has no stream; leave stream out");
  } else if (self.ready) {
    const auto asked = stream.is_none() ? legacy_stream : py::cast<std::intptr_t>(stream);
    if (asked != -1) self.ready->make_wait(reinterpret_cast<void*>(asked));
  }
  return to_dlpack_capsule(self.tensor, nullptr, max_version && max_version->first >= 1, 0);
}

py::array to_numpy(const DeviceTensor& self) {
  if (self.tensor.place().host()) return view_of(self.tensor);
  const std::shared_ptr<Device> device = device_of(self.tensor.place());
  Tensor host(self.tensor.shape(), self.tensor.dtype());
  {
    const py::gil_scoped_release release;
    Stream& stream = device->stream();
    if (self.ready) self.ready->make_wait(stream.handle());
    stream.copy(self.tensor, host);
  }
  return view_of(host);
}

}  // namespace

std::shared_ptr<Device> device_of(Place place) {
  const py::object open = py::module_::import("hoirt.backends.devices").attr("open_device");
  return py::cast<std::shared_ptr<Device>>(open(to_string(place)));
}

py::array view_of(const Tensor& tensor) {
  if (tensor.dtype() != DType::bf16) return array_from(tensor);
  // f16 has the size of bf16.
  const Tensor same = Tensor::borrow(const_cast<void*>(tensor.raw()), tensor.shape(), DType::f16,
                                     std::make_shared<Tensor>(tensor));
  return array_from(same).attr("view")("uint16");
}

py::object shared_from(const Tensor& tensor) {
  if (tensor.place().host()) return view_of(tensor);
  return py::cast(DeviceTensor{tensor, nullptr});
}

Tensor argument_from(const py::object& object, const std::string& name, Place place) {
  if (place.host() || py::isinstance<py::array>(object)) return tensor_from(object, name);
  const auto where = dlpack_place(object, name);
  if (!where || where->host()) return tensor_from(object, name);
  if (*where != place) {
    throw InputError(name + " must be on the CPU or on " + to_string(place) + ", not on " + to_string(*where));
  }
  const std::shared_ptr<Device> device = device_of(place);
  if (py::isinstance<DeviceTensor>(object)) {
    const auto& given = py::cast<const DeviceTensor&>(object);
    if (given.ready) given.ready->make_wait(device->stream().handle());
    return given.tensor;
  }
  const Tensor given = tensor_from_dlpack(object, name, stream_argument(*device));
  // Its owner knows nothing of our stream: it gets the memory back when what we have enqueued by then is done.
  const auto lent = std::make_shared<Tensor>(given);
  return Tensor::borrow(lent->raw(), given.shape(), given.dtype(),
                        std::shared_ptr<const void>(lent.get(), [lent, device](const void*) { device->stream().keep(lent); }),
                        place);
}

TensorMap arguments_from(const py::object& mapping, const std::string& name, Place place) {
  if (place.host()) return tensors_from(mapping, name);
  TensorMap tensors;
  py::dict items;
  try {
    items = py::dict(mapping);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw InputError(name + ": " + error.what());
  }
  for (const auto& [label, array] : items) {
    if (!py::isinstance<py::str>(label)) throw InputError(name + " must map names to arrays");
    const auto key = py::cast<std::string>(label);
    const auto object = py::reinterpret_borrow<py::object>(array);
    tensors.emplace(key, argument_from(object, name + " '" + key + "'", place));
  }
  return tensors;
}

void register_device_tensor(py::module_& module) {
  py::class_<DeviceTensor>(module, "DeviceTensor", py::release_gil_before_calling_cpp_dtor(),
                           "A contiguous, row-major array on a device that any library shares by DLPack, such as\n"
                           "torch.from_dlpack. A stream that it is given to waits until it is written; the host does not.")
      .def_property_readonly("shape", [](const DeviceTensor& self) { return tuple_from(self.tensor.shape()); })
      .def_property_readonly("dtype", [](const DeviceTensor& self) { return to_string(self.tensor.dtype()); })
      .def_property_readonly("device", [](const DeviceTensor& self) { return to_string(self.tensor.place()); },
                             "\"cpu\" or \"cuda:0\".")
      .def_property_readonly(
          "address", [](const DeviceTensor& self) { return reinterpret_cast<std::uintptr_t>(self.tensor.raw()); },
          "Where it begins in the device's memory.")
      .def(
          "rows",
          [](const DeviceTensor& self, std::int64_t begin, std::int64_t end) {
            return DeviceTensor{self.tensor.rows(begin, end), self.ready};
          },
          py::arg("begin"), py::arg("end"), "Rows begin .. end - 1 of the first axis, in the same memory.")
      .def(
          "reshape",
          [](const DeviceTensor& self, const IntegerSequence& shape) {
            return DeviceTensor{self.tensor.reshaped(shape_from(shape, "shape")), self.ready};
          },
          py::arg("shape"), "The same memory in another shape.")
      .def("numpy", &to_numpy,
           "A NumPy copy, made by one download; on the CPU a view. bfloat16 comes as uint16. Raises BackendError.")
      .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none(),
           "A DLPack capsule, versioned if the consumer asks for version 1; never a copy.")
      .def("__dlpack_device__", [](const DeviceTensor& self) { return dlpack_device(self.tensor.place()); })
      .def("__repr__", [](const DeviceTensor& self) {
        return "DeviceTensor(shape=" + to_string(self.tensor.shape()) + ", dtype=" + to_string(self.tensor.dtype()) +
               ", device=" + to_string(self.tensor.place()) + ")";
      });
}

}  // namespace hoirt::bindings
