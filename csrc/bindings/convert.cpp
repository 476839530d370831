// Python values in and out of the engine's types.
#include "csrc/bindings/convert.h"

#include <array>
#include <utility>

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

constexpr std::array numpy_dtypes{DType::f32, DType::f64, DType::f16, DType::i32, DType::i64, DType::u8, DType::boolean};

std::string type_name(const py::handle& object) { return py::str(py::type::handle_of(object).attr("__name__")); }

// Runs `convert`; whatever Python error it ends in becomes an InputError about `name`.
template <typename Convert>
auto or_input_error(const std::string& name, const Convert& convert) {
  try {
    return convert();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;  // KeyboardInterrupt and its like
    throw InputError(name + ": " + error.what());
  } catch (const py::cast_error&) {
    throw InputError(name + ": a value has the wrong type");
  }
}

py::array view_of(const py::object& object, const std::string& name) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  const py::module_ numpy = py::module_::import("numpy");
  if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__")) {
    return or_input_error(name, [&]() -> py::array {
      const auto device = py::cast<std::pair<int, int>>(object.attr("__dlpack_device__")());
      if (device.first != 1) {
        throw InputError(name + " must be on the CPU, not on DLPack device (" + std::to_string(device.first) + ", " +
                         std::to_string(device.second) + ")");
      }
      return numpy.attr("from_dlpack")(object);
    });
  }
  const bool is_array = py::hasattr(object, "__array_interface__") || py::hasattr(object, "__array__") ||
                        PyObject_CheckBuffer(object.ptr()) != 0;
  if (!is_array) {
    throw InputError(name + " must be an array (NumPy, or any DLPack array on the CPU), not " + type_name(object));
  }
  return or_input_error(name, [&]() -> py::array { return numpy.attr("asarray")(object); });
}

DType dtype_of_array(const py::array& array, const std::string& name) {
  if (py::cast<bool>(array.dtype().attr("isnative"))) {
    const std::string text = py::str(array.dtype().attr("name"));
    for (const DType dtype : numpy_dtypes) {
      if (to_string(dtype) == text) return dtype;
    }
  }
  throw InputError(name + " holds " + std::string(py::str(array.dtype())) +
                   "; it must hold float32, float64, float16, int32, int64, uint8 or bool in native byte order");
}

}  // namespace

std::shared_ptr<const void> owner_of(py::object object) {
  return {new py::object(std::move(object)), [](const void* held) {
            const py::gil_scoped_acquire gil;
            delete static_cast<const py::object*>(held);
          }};
}

py::array array_of(const py::object& object, const std::string& name) {
  const py::array array = view_of(object, name);
  static_cast<void>(dtype_of_array(array, name));
  return py::module_::import("numpy").attr("require")(array, py::none(), py::make_tuple("C", "A"));
}

Tensor tensor_from(const py::object& object, const std::string& name) {
  const py::array array = array_of(object, name);
  return Tensor::borrow(const_cast<void*>(array.data()), Shape(array.shape(), array.shape() + array.ndim()),
                        dtype_of_array(array, name), owner_of(array));
}

Tensor tensor_from(const py::object& object, const std::string& name, DType dtype) {
  Tensor tensor = tensor_from(object, name);
  if (tensor.dtype() != dtype) {
    throw InputError(name + " must hold " + to_string(dtype) + ", not " + to_string(tensor.dtype()));
  }
  return tensor;
}

TensorMap tensors_from(const py::object& mapping, const std::string& name) {
  return or_input_error(name, [&] {
    TensorMap tensors;
    for (const auto& [label, array] : py::dict(mapping)) {
      const auto key = py::cast<std::string>(label);
      tensors.emplace(key, tensor_from(py::reinterpret_borrow<py::object>(array), name + " '" + key + "'"));
    }
    return tensors;
  });
}

py::array array_from(const Tensor& tensor) {
  if (tensor.dtype() == DType::bf16) throw InputError("NumPy has no bfloat16; exchange the tensor by DLPack");
  auto held = std::make_unique<Tensor>(tensor);
  void* data = held->raw();
  const py::capsule owner(held.release(), [](void* pointer) { delete static_cast<Tensor*>(pointer); });
  return py::array(py::dtype(to_string(tensor.dtype())), tensor.shape(), data, owner);
}

DType dtype_from(const std::string& name) {
  for (const DType dtype : numpy_dtypes) {
    if (to_string(dtype) == name) return dtype;
  }
  if (name == to_string(DType::bf16)) return DType::bf16;
  throw InputError("unknown dtype '" + name + "'; known are float32, float64, float16, bfloat16, int32, int64, uint8, bool");
}

py::typing::Tuple<py::int_, py::ellipsis> tuple_from(const Shape& shape) {
  py::tuple out(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) out[i] = shape[i];
  return out;
}

Shape shape_from(const py::object& object, const std::string& name) {
  return or_input_error(name, [&] {
    Shape shape;
    for (const py::handle item : py::iter(object)) {
      const py::object integer = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
      if (!integer) throw py::error_already_set();
      shape.push_back(PyLong_AsLongLong(integer.ptr()));
      if (PyErr_Occurred()) throw py::error_already_set();
    }
    return shape;
  });
}

std::uint64_t unsigned_from(const py::handle& object, const std::string& name, std::uint64_t most) {
  return or_input_error(name, [&] {
    const py::object integer = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
    if (!integer) throw py::error_already_set();
    const std::uint64_t value = PyLong_AsUnsignedLongLong(integer.ptr());
    if (PyErr_Occurred()) PyErr_Clear();
    else if (value <= most) return value;
    throw InputError(name + " must be an integer in 0.." + std::to_string(most) + ", not " +
                     std::string(py::str(object)));
  });
}

std::vector<std::uint64_t> seeds_from(const py::object& object) {
  std::vector<std::uint64_t> seeds;
  const py::object iterator =
      or_input_error("seeds", [&]() -> py::object { return py::iter(object); });
  for (const py::handle seed : py::reinterpret_borrow<py::iterator>(iterator)) {
    seeds.push_back(unsigned_from(seed, "seeds[" + std::to_string(seeds.size()) + "]"));
  }
  return seeds;
}

}  // namespace hoirt::bindings
