// Tensor for Python: memory that crosses between libraries by DLPack and the NumPy array interface.
#include "engine/tensor.h"

#include <pybind11/stl.h>

#include <optional>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/dlpack.h"
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

dlpack::DataType dlpack_type(DType dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * item_size(dtype));
  switch (dtype) {
    case DType::f32:
    case DType::f64:
    case DType::f16:
      return {dlpack::TypeCode::floating, bits, 1};
    case DType::bf16:
      return {dlpack::TypeCode::bfloat, bits, 1};
    case DType::i32:
    case DType::i64:
      return {dlpack::TypeCode::integer, bits, 1};
    case DType::u8:
      return {dlpack::TypeCode::unsigned_integer, bits, 1};
    case DType::boolean:
      return {dlpack::TypeCode::boolean, bits, 1};
  }
  throw InputError("unknown dtype");
}

// What a consumer holds until it calls the deleter: the memory, and the extents that the view points to.
template <typename M>
struct Export {
  Tensor tensor;
  Shape shape, strides;
  M managed{};
};

template <typename M>
py::capsule export_capsule(const Tensor& tensor, std::uint64_t flags) {
  auto exported = std::make_unique<Export<M>>(Export<M>{tensor, tensor.shape(), Shape(tensor.rank()), {}});
  std::int64_t stride = 1;
  for (std::size_t axis = tensor.rank(); axis-- > 0; stride *= tensor.dim(axis)) exported->strides[axis] = stride;
  M& managed = exported->managed;
  managed.tensor = {exported->tensor.raw(), {dlpack::cpu, 0}, static_cast<std::int32_t>(tensor.rank()),
                    dlpack_type(tensor.dtype()), exported->shape.data(), exported->strides.data(), 0};
  if constexpr (std::is_same_v<M, dlpack::ManagedVersioned>) {
    managed.major = 1;
    managed.flags = flags;
  }
  managed.deleter = [](M* self) { delete static_cast<Export<M>*>(self->context); };
  managed.context = exported.get();
  py::capsule capsule(&managed, M::name, [](PyObject* object) {
    if (!PyCapsule_IsValid(object, M::name)) return;  // consumed: the consumer renamed it and calls the deleter itself
    auto* self = static_cast<M*>(PyCapsule_GetPointer(object, M::name));
    self->deleter(self);
  });
  static_cast<void>(exported.release());
  return capsule;
}

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
    return export_capsule<dlpack::ManagedVersioned>(
        tensor, (read_only ? dlpack::read_only : 0) | (copied ? dlpack::is_copied : 0));
  }
  // The protocol before version 1 cannot say that memory must not be written.
  if (read_only) throw py::buffer_error("this tensor is read-only; ask with max_version=(1, 0) or copy=True");
  return export_capsule<dlpack::Managed>(tensor, 0);
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
