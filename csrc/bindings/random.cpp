// philox_normal() for Python.
#include <pybind11/typing.h>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/cpu/launchers.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

py::array_t<float> philox_normal(const Integer& seed, const Integer& stream, const IntegerSequence& shape) {
  const std::uint64_t key = unsigned_from(seed, "seed");
  const auto which = static_cast<std::uint32_t>(unsigned_from(stream, "stream", UINT32_MAX));
  const Shape extents = shape_from(shape, "shape");
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = cpu::philox_normal(key, which, extents);
  }
  return array_from<float>(out);
}

py::typing::Tuple<py::int_, py::int_, py::int_, py::int_> philox4x32(const IntegerSequence& counter, const IntegerSequence& key) {
  const auto words = [](const py::object& object, const std::string& name, std::size_t wanted) {
    std::vector<std::uint32_t> out;
    for (const std::int64_t word : shape_from(object, name)) {
      if (word < 0 || word > UINT32_MAX) throw InputError(name + " must hold 32-bit words");
      out.push_back(static_cast<std::uint32_t>(word));
    }
    if (out.size() != wanted) throw InputError(name + " must hold " + std::to_string(wanted) + " words");
    return out;
  };
  const auto c = words(counter, "counter", 4);
  const auto k = words(key, "key", 2);
  const kernels::PhiloxWords out = kernels::philox4x32({{c[0], c[1], c[2], c[3]}}, k[0], k[1]);
  return py::make_tuple(out.word[0], out.word[1], out.word[2], out.word[3]);
}

}  // namespace

void register_random(py::module_& module) {
  module.def("philox_normal", &philox_normal, py::arg("seed"), py::arg("stream"), py::arg("shape"),
             "float32 standard normals of `shape`: Philox 4x32-10 keyed by `seed` (64 bits) with the 32-bit number\n"
             "`stream` in its counter, then Box-Muller in float32, to 5e-7 of each one's size. Element i is the\n"
             "same for every shape and device.");
  module.def("philox4x32", &philox4x32, py::arg("counter"), py::arg("key"),
             "The four 32-bit words of Philox 4x32-10 for a counter of four words and a key of two.");
}

}  // namespace hoirt::bindings
