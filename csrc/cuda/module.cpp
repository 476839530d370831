// hoirt._core_cuda: the kernels of the native core on a CUDA device, on raw device pointers and a stream.
#include <pybind11/pybind11.h>

#include <string>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/cuda/encode_module.h"
#include "csrc/cuda/launchers.h"
#include "csrc/cuda/picture_module.h"
#include "csrc/cuda/pointers.h"
#include "csrc/cuda/raster_module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using kernels::GuidedStep;

// A step on memory of float32, whose addresses may be those of another type's memory.
struct TypedStep : GuidedStep {
  DType dtype = DType::f32;
};

template <typename T>
kernels::GuidedStepOf<T> step_of(const GuidedStep& step) {
  kernels::GuidedStepOf<T> out;
  static_cast<kernels::StepRow&>(out) = step;
  const auto read = [](const float* address) { return reinterpret_cast<const T*>(address); };
  const auto written = [](float* address) { return reinterpret_cast<T*>(address); };
  out.state = read(step.state), out.previous_clean = read(step.previous_clean);
  out.unconditional = read(step.unconditional), out.conditional = read(step.conditional);
  out.mask = read(step.mask), out.known = read(step.known);
  out.next = written(step.next), out.copy = written(step.copy), out.clean = written(step.clean);
  out.noise = step.noise, out.known_noise = step.known_noise;
  out.items = step.items, out.item_size = step.item_size;
  return out;
}

void launch(const TypedStep& step, void* stream) {
  switch (step.dtype) {
    case DType::f16:
      return cuda::guided_step(step_of<kernels::Half>(step), stream);
    case DType::bf16:
      return cuda::guided_step(step_of<kernels::BFloat>(step), stream);
    default:
      return cuda::guided_step(step, stream);
  }
}

void check(const GuidedStep& step) {
  const auto has_source = [](const kernels::Noise& noise) { return noise.given || noise.seeds; };
  require(step.items >= 0 && step.item_size >= 0, "items and item_size must not be negative");
  require(step.next != nullptr, "next, where the new state goes, is null");
  require(!step.mask || step.known, "mask is set, but known is null");
  require(!step.unconditional || step.conditional, "unconditional is set, but conditional is null");
  require(step.F == 0 || has_source(step.noise), "F is not 0: noise or seeds must be set");
  require(!step.mask || step.H == 0 || has_source(step.known_noise), "H is not 0: known_noise or seeds must be set");
}

// A device address as an integer attribute; 0 is null.
template <typename Class, typename Get>
void def_pointer(Class& bound, const char* name, const Get& member, const char* doc) {
  bound.def_property(
      name, [member](TypedStep& self) { return reinterpret_cast<std::uintptr_t>(member(self)); },
      [member](TypedStep& self, std::uintptr_t address) {
        auto& target = member(self);
        target = pointer_from<std::remove_pointer_t<std::remove_reference_t<decltype(target)>>>(address);
      },
      doc);
}

void register_guided_step(py::module_& module) {
  py::class_<TypedStep> bound(module, "GuidedStep",
                              "One row of a step table on device memory; see hoirt._core.StepTable for the letters.\n"
                              "Addresses are integers, 0 is null; memory is (items, item_size) of `dtype`, \"float32\",\n"
                              "\"float16\" or \"bfloat16\", noise always float32. The arithmetic is float64.");
  bound
      .def(py::init([](std::int64_t items, std::int64_t item_size, const std::string& dtype) {
             TypedStep step;
             step.items = items;
             step.item_size = item_size;
             step.dtype = dtype_from(dtype);
             require(step.dtype == DType::f32 || step.dtype == DType::f16 || step.dtype == DType::bf16,
                     "dtype must be float32, float16 or bfloat16, not " + dtype);
             return step;
           }),
           py::kw_only(), py::arg("items"), py::arg("item_size"), py::arg("dtype") = "float32")
      .def_readwrite("guidance", &GuidedStep::guidance)
      .def_readwrite("A", &GuidedStep::A)
      .def_readwrite("B", &GuidedStep::B)
      .def_readwrite("C", &GuidedStep::C)
      .def_readwrite("D", &GuidedStep::D)
      .def_readwrite("E", &GuidedStep::E)
      .def_readwrite("F", &GuidedStep::F)
      .def_readwrite("G", &GuidedStep::G)
      .def_readwrite("H", &GuidedStep::H)
      .def_readwrite("clip", &GuidedStep::clip)
      .def_property(
          "row", [](const TypedStep& self) { return self.noise.stream == 0 ? -1 : (self.noise.stream - 1) / 2; },
          [](TypedStep& self, std::int64_t row) {
            require(row >= -1 && row < INT32_MAX, "row must be -1 (the initial state) or a row of the table");
            self.noise.stream = row < 0 ? 0 : static_cast<std::uint32_t>(1 + 2 * row);
            self.known_noise.stream = row < 0 ? 0xFFFFFFFEu : static_cast<std::uint32_t>(2 + 2 * row);
          },
          "The row whose Philox streams are drawn; -1 for the initial state.")
      .def(
          "launch",
          [](const TypedStep& self, std::uintptr_t stream) {
            check(self);
            launch(self, pointer_from<void>(stream));
          },
          py::kw_only(), py::arg("stream") = 0, py::call_guard<py::gil_scoped_release>(),
          "Enqueues the step on a cudaStream_t (0: the default stream). Raises InputError or BackendError.");
  const auto pointer = [&bound](const char* name, auto member, const char* doc) {
    def_pointer(bound, name, [member](TypedStep& step) -> auto& { return step.*member; }, doc);
  };
  pointer("state", &GuidedStep::state, "x");
  pointer("unconditional", &GuidedStep::unconditional, "u; 0: out = c");
  pointer("conditional", &GuidedStep::conditional, "c; 0: out = 0");
  pointer("previous_clean", &GuidedStep::previous_clean, "x0 of the row before; 0 where E is 0");
  pointer("mask", &GuidedStep::mask, "m, full shape; 0: no known region");
  pointer("known", &GuidedStep::known, "z");
  pointer("next", &GuidedStep::next, "x'; may be state");
  pointer("copy", &GuidedStep::copy, "a second copy of x', or 0");
  pointer("clean", &GuidedStep::clean, "x0, or 0");
  def_pointer(bound, "noise", [](TypedStep& step) -> auto& { return step.noise.given; }, "n, or 0 for Philox");
  def_pointer(bound, "known_noise", [](TypedStep& step) -> auto& { return step.known_noise.given; },
              "n', or 0 for Philox");
  bound.def_property(
      "seeds", [](const TypedStep& self) { return reinterpret_cast<std::uintptr_t>(self.noise.seeds); },
      [](TypedStep& self, std::uintptr_t address) {
        self.noise.seeds = self.known_noise.seeds = pointer_from<const std::uint64_t>(address);
      },
      "uint64 (items,), the Philox seed of each item");
}

void philox_normal(std::uintptr_t out, std::int64_t size, const Integer& seed, const Integer& stream_number,
                   std::uintptr_t stream) {
  require(size >= 0 && (out != 0 || size == 0), "out must be the address of `size` floats");
  const kernels::PhiloxFill fill{unsigned_from(seed, "seed"),
                                 static_cast<std::uint32_t>(unsigned_from(stream_number, "stream_number", UINT32_MAX)),
                                 pointer_from<float>(out), size};
  cuda::philox_normal(fill, pointer_from<void>(stream));
}

}  // namespace
}  // namespace hoirt::bindings

PYBIND11_MODULE(_core_cuda, module) {
  using namespace hoirt::bindings;
  module.doc() =
      "The kernels of hoirt._core on a CUDA device: raw device addresses and stream handles as integers (torch:\n"
      "tensor.data_ptr(), stream.cuda_stream). Launches are asynchronous; results equal the CPU's to the bit. The module\n"
      "needs no CUDA runtime to import: a missing driver is a BackendError at the first call.";
  module.attr("__version__") = HOIRT_VERSION;
  module.attr("cuda_version") = hoirt::cuda::runtime_version();
  register_errors(module);
  register_guided_step(module);
  register_cuda_raster(module);
  module.def("philox_normal", &philox_normal, py::arg("out"), py::kw_only(), py::arg("size"), py::arg("seed"),
             py::arg("stream_number"), py::arg("stream") = 0,
             "Writes `size` float32 normals of hoirt._core.philox_normal to the address `out`.");
  register_cuda_pictures(module);
  register_cuda_encode(module);
  module.def("device_count", &hoirt::cuda::device_count, "How many devices the driver shows. Raises BackendError.");
}
