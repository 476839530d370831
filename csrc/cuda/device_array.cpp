// DLPack capsules of CUDA memory, in and out.
#include "csrc/cuda/device_array.h"

#include <array>
#include <utility>

#include "csrc/bindings/convert.h"
#include "csrc/bindings/dlpack.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

constexpr std::int32_t on_cuda = 2;
constexpr std::intptr_t legacy_stream = 1;  // how DLPack and CUDA write the default stream

using dlpack::TypeCode;
constexpr std::array<std::pair<DType, dlpack::DataType>, 6> types{{{DType::f32, {TypeCode::floating, 32, 1}},
                                                                  {DType::f64, {TypeCode::floating, 64, 1}},
                                                                  {DType::i32, {TypeCode::integer, 32, 1}},
                                                                  {DType::i64, {TypeCode::integer, 64, 1}},
                                                                  {DType::u8, {TypeCode::unsigned_integer, 8, 1}},
                                                                  {DType::boolean, {TypeCode::boolean, 8, 1}}}};

DType dtype_of_view(const dlpack::DataType& type, const std::string& name) {
  for (const auto& [dtype, known] : types) {
    if (type.code == known.code && type.bits == known.bits && type.lanes == known.lanes) return dtype;
  }
  throw InputError(name + " must hold float32, float64, int32, int64, uint8 or bool");
}

struct Export {
  DeviceArray array;
  Shape strides;
  dlpack::Managed managed{};
};

py::capsule to_dlpack(const DeviceArray& array, const py::object& stream) {
  const auto asked = stream.is_none() ? legacy_stream : py::cast<std::intptr_t>(stream);
  if (asked != -1 && array.ready) {  // -1: the consumer takes care of the order itself
    const cuda::DeviceScope scope(array.device);
    array.ready->make_wait(reinterpret_cast<void*>(asked));
  }
  auto exported = std::make_unique<Export>(Export{array, Shape(array.shape.size()), {}});
  std::int64_t stride = 1;
  for (std::size_t axis = array.shape.size(); axis-- > 0; stride *= array.shape[axis]) exported->strides[axis] = stride;
  dlpack::DataType type{};
  for (const auto& [dtype, known] : types) {
    if (dtype == array.dtype) type = known;
  }
  dlpack::Managed& managed = exported->managed;
  managed.tensor = {array.data, {on_cuda, array.device}, static_cast<std::int32_t>(array.shape.size()), type,
                    exported->array.shape.data(), exported->strides.data(), 0};
  managed.deleter = [](dlpack::Managed* self) { delete static_cast<Export*>(self->context); };
  managed.context = exported.get();
  py::capsule capsule(&managed, dlpack::Managed::name, [](PyObject* object) {
    if (!PyCapsule_IsValid(object, dlpack::Managed::name)) return;  // consumed
    auto* self = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(object, dlpack::Managed::name));
    self->deleter(self);
  });
  static_cast<void>(exported.release());
  return capsule;
}

}  // namespace

int cuda_device_of(const py::object& object) {
  if (!py::hasattr(object, "__dlpack_device__")) return -1;
  const auto device = py::cast<std::pair<int, int>>(object.attr("__dlpack_device__")());
  return device.first == on_cuda ? device.second : -1;
}

DeviceArray device_array_from(const py::object& object, const std::string& name, void* stream) {
  DeviceArray out;
  out.device = cuda_device_of(object);
  if (out.device < 0) throw InputError(name + " must be on a CUDA device");
  const auto consumer = stream ? reinterpret_cast<std::intptr_t>(stream) : legacy_stream;
  py::object capsule;
  try {
    capsule = object.attr("__dlpack__")(py::arg("stream") = consumer);
  } catch (py::error_already_set& error) {
    throw InputError(name + ": " + error.what());
  }
  if (!PyCapsule_IsValid(capsule.ptr(), dlpack::Managed::name)) throw InputError(name + " gave no DLPack tensor");
  auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::Managed::name));
  PyCapsule_SetName(capsule.ptr(), dlpack::Managed::used_name);
  out.owner = std::shared_ptr<const void>(managed, [managed](const void*) {
    if (managed->deleter) managed->deleter(managed);
  });
  const dlpack::TensorView& view = managed->tensor;
  out.shape.assign(view.shape, view.shape + view.rank);
  out.dtype = dtype_of_view(view.dtype, name);
  std::int64_t stride = 1;
  for (std::size_t axis = out.shape.size(); view.strides && axis-- > 0; stride *= out.shape[axis]) {
    if (out.shape[axis] != 1 && view.strides[axis] != stride && element_count(out.shape) != 0) {
      throw InputError(name + " must be contiguous on the device; make a contiguous copy");
    }
  }
  out.data = static_cast<std::byte*>(view.data) + view.byte_offset;
  return out;
}

void register_device_array(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray",
                          "An array on a CUDA device that any library takes by DLPack, such as torch.from_dlpack. The\n"
                          "stream that it is used on waits for it, the host does not.")
      .def_property_readonly("shape", [](const DeviceArray& self) { return tuple_from(self.shape); })
      .def_property_readonly("dtype", [](const DeviceArray& self) { return to_string(self.dtype); })
      .def(
          "__dlpack__",
          [](const DeviceArray& self, const py::object& stream, const py::object&, const py::object&, const py::object&) {
            return to_dlpack(self, stream);
          },
          py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
          py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const DeviceArray& self) { return std::pair<int, int>(on_cuda, self.device); });
}

}  // namespace hoirt::bindings
