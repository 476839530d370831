// DLPack capsules of tensors, in and out.
#include "csrc/bindings/dlpack_exchange.h"

#include <array>
#include <type_traits>
#include <utility>

#include "csrc/bindings/dlpack.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using dlpack::TypeCode;
constexpr std::array<std::pair<DType, dlpack::DataType>, 8> types{{{DType::f32, {TypeCode::floating, 32, 1}},
                                                                  {DType::f64, {TypeCode::floating, 64, 1}},
                                                                  {DType::f16, {TypeCode::floating, 16, 1}},
                                                                  {DType::bf16, {TypeCode::bfloat, 16, 1}},
                                                                  {DType::i32, {TypeCode::integer, 32, 1}},
                                                                  {DType::i64, {TypeCode::integer, 64, 1}},
                                                                  {DType::u8, {TypeCode::unsigned_integer, 8, 1}},
                                                                  {DType::boolean, {TypeCode::boolean, 8, 1}}}};

dlpack::DataType type_of(DType dtype) {
  for (const auto& [known, type] : types) {
    if (known == dtype) return type;
  }
  throw InputError("unknown dtype");
}

DType dtype_of(const dlpack::DataType& type, const std::string& name) {
  for (const auto& [dtype, known] : types) {
    if (type.code == known.code && type.bits == known.bits && type.lanes == known.lanes) return dtype;
  }
  throw InputError(name + " must hold float32, float64, float16, bfloat16, int32, int64, uint8 or bool");
}

// What a consumer holds until it calls the deleter: the memory, and the extents that the view points to.
template <typename M>
struct Export {
  Tensor tensor;
  std::shared_ptr<const void> kept;
  Shape shape, strides;
  M managed{};
};

template <typename M>
py::capsule export_capsule(const Tensor& tensor, std::shared_ptr<const void> kept, std::uint64_t flags) {
  auto exported = std::make_unique<Export<M>>(
      Export<M>{tensor, std::move(kept), tensor.shape(), Shape(tensor.rank()), {}});
  std::int64_t stride = 1;
  for (std::size_t axis = tensor.rank(); axis-- > 0; stride *= tensor.dim(axis)) exported->strides[axis] = stride;
  M& managed = exported->managed;
  const auto device = dlpack_device(tensor.place());
  managed.tensor = {exported->tensor.raw(), {device.first, device.second}, static_cast<std::int32_t>(tensor.rank()),
                    type_of(tensor.dtype()), exported->shape.data(), exported->strides.data(), 0};
  if constexpr (std::is_same_v<M, dlpack::ManagedVersioned>) {
    managed.major = 1;
    managed.flags = flags;
  } else {
    static_cast<void>(flags);
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

// Producers may be written in Python, so that their deleters need the GIL.
template <typename M>
std::shared_ptr<const void> owner_of(M* managed) {
  return {managed, [](const void* held) {
            auto* self = static_cast<M*>(const_cast<void*>(held));
            const py::gil_scoped_acquire gil;
            if (self->deleter) self->deleter(self);
          }};
}

template <typename M>
Tensor import_capsule(const py::object& capsule, const std::string& name, Place place) {
  auto* managed = static_cast<M*>(PyCapsule_GetPointer(capsule.ptr(), M::name));
  PyCapsule_SetName(capsule.ptr(), M::used_name);
  const auto owner = owner_of(managed);
  if constexpr (std::is_same_v<M, dlpack::ManagedVersioned>) {
    if (managed->major != 1) throw InputError(name + " uses DLPack " + std::to_string(managed->major) + ", not 1");
  }
  const dlpack::TensorView& view = managed->tensor;
  if (dlpack_device(place) != std::pair<int, int>(view.device.type, view.device.id)) {
    throw InputError(name + " lies on another device than it says");
  }
  const Shape shape(view.shape, view.shape + view.rank);
  const bool empty = element_count(shape) == 0;
  std::int64_t stride = 1;
  for (std::size_t axis = shape.size(); view.strides && !empty && axis-- > 0; stride *= shape[axis]) {
    if (shape[axis] != 1 && view.strides[axis] != stride) {
      throw InputError(name + " must be contiguous; make a contiguous copy");
    }
  }
  const DType dtype = dtype_of(view.dtype, name);
  void* data = static_cast<std::byte*>(view.data) + view.byte_offset;
  if (reinterpret_cast<std::uintptr_t>(data) % item_size(dtype) != 0) {
    throw InputError(name + " must begin at a multiple of its item size; make a copy");
  }
  return Tensor::borrow(data, shape, dtype, owner, place);
}

constexpr int on_cpu = 1, on_cuda = 2;

}  // namespace

std::pair<int, int> dlpack_device(Place place) { return {place.host() ? on_cpu : on_cuda, place.index}; }

std::optional<Place> dlpack_place(const py::object& object, const std::string& name) {
  if (!py::hasattr(object, "__dlpack__") || !py::hasattr(object, "__dlpack_device__")) return std::nullopt;
  try {
    const auto device = py::cast<std::pair<int, int>>(py::tuple(object.attr("__dlpack_device__")()));
    if (device.first == on_cpu) return Place{};
    if (device.first == on_cuda && device.second >= 0) return Place{Place::Kind::cuda, device.second};
    return std::nullopt;
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw InputError(name + ": " + error.what());
  } catch (const py::cast_error&) {
    throw InputError(name + ": its __dlpack_device__ is not a pair of integers");
  }
}

Tensor tensor_from_dlpack(const py::object& object, const std::string& name, const py::object& stream) {
  const auto place = dlpack_place(object, name);
  if (!place) throw InputError(name + " must be a DLPack array on the CPU or on a CUDA device");
  py::object capsule;
  try {
    capsule = object.attr("__dlpack__")(py::arg("stream") = stream);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw InputError(name + ": " + error.what());
  }
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::Managed::name)) {
    return import_capsule<dlpack::Managed>(capsule, name, *place);
  }
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::ManagedVersioned::name)) {
    return import_capsule<dlpack::ManagedVersioned>(capsule, name, *place);
  }
  throw InputError(name + " gave no DLPack tensor");
}

py::capsule to_dlpack_capsule(const Tensor& tensor, std::shared_ptr<const void> kept, bool versioned,
                              std::uint64_t flags) {
  return versioned ? export_capsule<dlpack::ManagedVersioned>(tensor, std::move(kept), flags)
                   : export_capsule<dlpack::Managed>(tensor, std::move(kept), flags);
}

}  // namespace hoirt::bindings
