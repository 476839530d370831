// Here: where a function on pictures works, its arguments there, and its checks.
#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/device_tensor.h"
#include "csrc/bindings/dlpack_exchange.h"

namespace hoirt::bindings {

constexpr std::int64_t most_extent = 1 << 20;

// The device of the first argument, and all arguments there.
struct Here {
  std::shared_ptr<Device> device;

  explicit Here(std::shared_ptr<Device> given) : device(std::move(given)) {}
  explicit Here(const pybind11::object& first, const std::string& name)
      : Here(device_of(pybind11::isinstance<pybind11::array>(first) ? Place{}
                                                                     : dlpack_place(first, name).value_or(Place{}))) {}

  Tensor take(const pybind11::object& object, const std::string& name) const {
    return move(argument_from(object, name, device->place()));
  }
  Tensor move(const Tensor& tensor) const {
    const pybind11::gil_scoped_release release;
    return resident(tensor, device->stream());
  }
  Tensor make(const Shape& shape, DType dtype) const { return device->stream().allocate(shape, dtype); }
  // What Python gets of a result.
  pybind11::object give(const Tensor& tensor) const {
    if (tensor.place().host()) return view_of(tensor);
    return pybind11::cast(DeviceTensor{tensor, device->stream().record()});
  }
};

inline void require(bool fine, const std::string& message) {
  if (!fine) throw InputError(message);
}

inline bool fits(const Shape& shape, std::size_t rank) {
  return shape.size() == rank &&
         std::all_of(shape.begin(), shape.end(), [](std::int64_t extent) { return extent >= 1 && extent <= most_extent; });
}

inline bool is_mask(const Tensor& tensor) { return tensor.dtype() == DType::u8 || tensor.dtype() == DType::boolean; }

// "uint8 (3, 4)".
inline std::string kind_of(const Tensor& tensor) { return to_string(tensor.dtype()) + " " + to_string(tensor.shape()); }

}  // namespace hoirt::bindings
