// Tensor for Python: memory that crosses between libraries by DLPack and the NumPy array interface.
#include "engine/tensor.h"

#include <pybind11/stl.h>

#include <optional>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/dlpack.h"
#include "csrc/bindings/dlpack_exchange.h"
#include "csrc/bindings/module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using Device = std::pair<int, int>;

// A tensor and whether its memory may be written.
struct PyTensor {
  Tensor tensor;
  bool read_only;

  explicit PyTensor(const ArrayLike& object)
      : PyTensor(array_of(object, "array")) {}

  py::array numpy() const {
    py::array array = array_from(tensor);
    if (read_only) array.attr("flags").attr("writeable") = false;
    return array;
  }

 private:
  explicit PyTensor(const py::array& array) : tensor(tensor_from(array, "array")), read_only(!array.writeable()) {}
};

py::capsule to_dlpack(const PyTensor& self, const py::object& stream,
                      const std::optional<std::pair<int, int>>& max_version,
                      const std::optional<Device>& device, std::optional<bool> copy) {
  if (!stream.is_none()) throw InputError("a tensor on the CPU has no stream; leave stream out");
  if (device && *device != Device{dlpack::cpu, 0}) {
    throw py::buffer_error("this tensor is on the CPU, DLPack device (1, 0), and cannot be exported to another");
  }
  const bool copied = copy.value_or(false);
  Tensor tensor = self.tensor;
  if (copied) {
    tensor = Tensor(self.tensor.shape(), self.tensor.dtype());
    std::memcpy(tensor.raw(), self.tensor.raw(), tensor.bytes());
  }
  const bool read_only = self.read_only && !copied;
  if (max_version && max_version->first >= 1) {
    return to_dlpack_capsule(tensor, nullptr, true,
                             (read_only ? dlpack::read_only : 0) | (copied ? dlpack::is_copied : 0));
  }
  // The protocol before version 1 cannot say that memory must not be written.
  if (read_only) throw py::buffer_error("this tensor is read-only; ask with max_version=(1, 0) or copy=True");
  return to_dlpack_capsule(tensor, nullptr, false, 0);
}

}  // namespace

void register_tensor(py::module_& module) {
  py::class_<PyTensor>(module, "Tensor",
                       "A contiguous, row-major array in CPU memory that any array library can share.\n\n"
                       "Made from NumPy, DLPack or buffer objects: zero-copy if C-contiguous, else a copy.\n"
                       "float32, float64, float16, int32, int64, uint8 or bool.")
      .def(py::init<const ArrayLike&>(), py::arg("array"),
           "Raises InputError for arrays on other devices and for other dtypes.")
      .def_property_readonly("shape", [](const PyTensor& self) { return tuple_from(self.tensor.shape()); })
      .def_property_readonly("dtype", [](const PyTensor& self) { return to_string(self.tensor.dtype()); })
      .def("numpy", &PyTensor::numpy, "A NumPy view of the memory, read-only if its source was.")
      .def_property_readonly("__array_interface__",
                             [](const PyTensor& self) -> py::typing::Dict<py::str, py::object> {
                               return self.numpy().attr("__array_interface__");
                             })
      .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none(),
           "A DLPack capsule, versioned if the consumer asks for version 1.")
      .def("__dlpack_device__", [](const PyTensor&) { return Device{dlpack::cpu, 0}; })
      .def("__repr__", [](const PyTensor& self) {
        return "Tensor(shape=" + to_string(self.tensor.shape()) + ", dtype=" + to_string(self.tensor.dtype()) + ")";
      });
}

}  // namespace hoirt::bindings
