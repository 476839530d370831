// DenoiseLoop for Python: arguments in, callbacks under the GIL, Ctrl-C at every step.
#include "engine/denoise_loop.h"

#include <pybind11/stl.h>

#include <memory>
#include <utility>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/device_tensor.h"
#include "csrc/bindings/module.h"
#include "csrc/bindings/step_table.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

// StepInfo whose x0 ends with the callback, as the loop goes on writing to that memory.
struct PyStepInfo {
  std::size_t step, steps;
  double timestep, seconds;
  std::shared_ptr<const StepInfo*> info;

  py::array_t<float> x0() const {
    if (!*info) throw InputError("StepInfo.x0 can be read inside on_step only; keep the array itself");
    Tensor copy;
    {
      const py::gil_scoped_release release;
      copy = (*info)->copy_clean();
    }
    return array_from<float>(copy);
  }
};

bool is_false(const py::object& value) {
  if (value.is_none()) return false;
  const bool is_bool =
      py::isinstance<py::bool_>(value) || py::isinstance(value, py::module_::import("numpy").attr("bool_"));
  return is_bool && !py::cast<bool>(value.attr("__bool__")());
}

bool call_on_step(const py::object& on_step, const StepInfo& info) {
  const py::gil_scoped_acquire gil;
  const auto current = std::make_shared<const StepInfo*>(&info);
  const std::shared_ptr<void> end(nullptr, [&current](void*) { *current = nullptr; });
  return !is_false(on_step(PyStepInfo{info.step, info.steps, info.timestep, info.seconds, current}));
}

// Python runs signal handlers on its main thread only.
bool on_main_thread() {
  const py::module_ threading = py::module_::import("threading");
  return threading.attr("get_ident")().equal(threading.attr("main_thread")().attr("ident"));
}

void check_signals() {
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

std::optional<Tensor> optional_tensor(const py::object& object, const std::string& name, Place place) {
  if (object.is_none()) return std::nullopt;
  Tensor tensor = argument_from(object, name, place);
  if (tensor.dtype() == DType::f32) return tensor;
  throw InputError(name + " must hold float32, not " + to_string(tensor.dtype()));
}

std::vector<float> control_from(const py::object& control) {
  try {
    const py::array_t<float, py::array::c_style | py::array::forcecast> values(control);
    if (values.ndim() <= 1) return {values.data(), values.data() + values.size()};
  } catch (const py::error_already_set&) {
    PyErr_Clear();
  }
  throw InputError("control must be a number or an array (N,)");
}

std::unique_ptr<DenoiseLoop> make_loop(std::shared_ptr<Network> network, std::string state,
                                       std::optional<std::string> timestep, std::optional<std::string> control,
                                       std::string output, std::optional<std::shared_ptr<Network>> reuse,
                                       std::optional<std::shared_ptr<Device>> device) {
  return std::make_unique<DenoiseLoop>(
      std::move(network), LoopPorts{std::move(state), std::move(timestep), std::move(control), std::move(output)},
      reuse.value_or(nullptr), device.value_or(nullptr));
}

LoopResult run(DenoiseLoop& loop, const TableLike& table, const IntegerSequence& shape, const IntegerSequence& seeds,
               const ArrayMap& condition, const ArrayMap& uncondition, const ArrayMap& per_step,
               const ArrayMap& per_step_uncondition, const ArrayLike& control,
               const OptionalArray& initial, const OptionalArray& known, const OptionalArray& mask,
               const OptionalArray& noise, const StepCallback& on_step, const std::optional<std::shared_ptr<CancelToken>>& cancel) {
  const StepTable rows = table_from(table);
  const Place place = loop.device().place();
  LoopRequest request;
  request.shape = shape_from(shape, "shape");
  request.seeds = seeds_from(seeds);
  request.condition = arguments_from(condition, "condition", place);
  request.uncondition = arguments_from(uncondition, "uncondition", place);
  request.per_step = arguments_from(per_step, "per_step", place);
  request.per_step_uncondition = arguments_from(per_step_uncondition, "per_step_uncondition", place);
  request.control = control_from(control);
  request.initial = optional_tensor(initial, "initial", place);
  request.known = optional_tensor(known, "known", place);
  request.mask = optional_tensor(mask, "mask", place);
  request.noise = optional_tensor(noise, "noise", place);
  request.cancel = cancel.value_or(nullptr);
  if (!on_step.is_none()) {
    if (PyCallable_Check(on_step.ptr()) == 0) throw InputError("on_step must be callable");
    request.on_step = [&on_step](const StepInfo& info) { return call_on_step(on_step, info); };
  }
  if (on_main_thread()) request.poll = check_signals;
  const py::gil_scoped_release release;
  return loop.run(rows, request);
}

py::array_t<double> seconds_array(const std::vector<double>& seconds) {
  return py::array_t<double>(static_cast<py::ssize_t>(seconds.size()), seconds.data());
}

}  // namespace

void register_denoise_loop(py::module_& module) {
  py::class_<PyStepInfo>(module, "StepInfo", "What on_step is told after a step.")
      .def_readonly("step", &PyStepInfo::step, "The row just done, from 0.")
      .def_readonly("steps", &PyStepInfo::steps)
      .def_readonly("timestep", &PyStepInfo::timestep)
      .def_readonly("seconds", &PyStepInfo::seconds, "Time of this step.")
      .def_property_readonly("x0", &PyStepInfo::x0, "A copy of the clean state predicted in this step, readable in on_step.");
  py::class_<LoopResult>(module, "LoopResult", "What a run gives back.")
      .def_property_readonly("latents", [](const LoopResult& self) { return shared_from(self.latents); },
                             "The final state, float32, of the shape asked for: a NumPy array, or a DeviceTensor where the\n"
                             "loop runs on a device.")
      .def_readonly("graphs", &LoopResult::graphs, "How many steps were launched as a recorded CUDA graph.")
      .def_readonly("graph_reason", &LoopResult::graph_reason, "\"\", or why steps were not.")
      .def_property_readonly("step_seconds", [](const LoopResult& self) { return seconds_array(self.step_seconds); },
                             "Time of each step without its callback (S,).")
      .def_property_readonly("network_seconds",
                             [](const LoopResult& self) { return seconds_array(self.network_seconds); },
                             "Time of each step inside the network (S,).");
  py::class_<DenoiseLoop>(module, "DenoiseLoop", py::release_gil_before_calling_cpp_dtor(),
                          "Denoises a state row by row of a step table. Thread-safe; buffers are kept between runs.\n\n"
                          "`state`, `timestep` (or None), `control` (or None) and `output` name the network's ports; its\n"
                          "other inputs are conditions, or given per step. Guided rows run one batch of 2 N, the unconditional half first.\n\n"
                          "`reuse` (or None) is a shallow network for the table's rows with `reuse`. It takes inputs of `network` and, by\n"
                          "name, outputs of it, the `features`: what they were in the last row without `reuse`, times control as it was then.\n\n"
                          "With a `device` all runs there, as the networks do: arguments are uploaded once or, if they lie there, shared;\n"
                          "a step is a CUDA graph from its second time on, and is not waited for.")
      .def(py::init(&make_loop), py::arg("network").none(false), py::kw_only(), py::arg("state") = "sample",
           py::arg("timestep") = "timestep", py::arg("control") = "control_scale", py::arg("output") = "prediction", py::arg("reuse") = py::none(),
           py::arg("device") = py::none())
      .def("free_idle", &DenoiseLoop::free_idle, py::call_guard<py::gil_scoped_release>(),
           "Frees buffers and graphs that ended runs left for later ones; Device.trim gives their memory back.")
      .def("unload", &DenoiseLoop::unload, py::call_guard<py::gil_scoped_release>(),
           "Frees the buffers and graphs that are kept between runs; the next run makes new ones.")
      .def_property_readonly("features", &DenoiseLoop::features,
                             "Names of the outputs of `network` that rows with `reuse` take; [] without a reuse network.")
      .def("run", &run, py::arg("table"), py::kw_only(), py::arg("shape"), py::arg("seeds"),
           py::arg("condition") = py::dict(), py::arg("uncondition") = py::dict(),
           py::arg("per_step") = py::dict(), py::arg("per_step_uncondition") = py::dict(), py::arg("control") = 1.0,
           py::arg("initial") = py::none(), py::arg("known") = py::none(), py::arg("mask") = py::none(),
           py::arg("noise") = py::none(), py::arg("on_step") = py::none(), py::arg("cancel") = py::none(),
           "Runs `table` (a StepTable or any object with its columns) on a state of `shape` (N, C, ...).\n\n"
           "seeds: N integers, 64 bits each; an item's noise depends on its own seed only.\n"
           "condition: inputs of the network, N or 1 items each; uncondition: those that differ without the condition.\n"
           "per_step: inputs of the network, row i for step i: (S, ...) for all items, or with one axis more (S, N, ...)\n"
           "or (S, 1, ...) for each; per_step_uncondition: those that differ without the condition.\n"
           "control: control strength, one or N. initial: given state, needed if the table's init_signal is not 0.\n"
           "known, mask: known state, and where to regenerate it (1) or keep it (0); the mask broadcasts.\n"
           "noise: float32 (K, ...) instead of Philox: initial, initial known, then per row n and n' where used.\n"
           "on_step(StepInfo): returning False raises Cancelled. cancel: a CancelToken.\n\n"
           "All arrays are float32, on the CPU or where the loop runs. On a device on_step is told of a step when it is\n"
           "enqueued, at most two steps ahead, unless it reads x0. Raises InputError, BackendError, Cancelled, KeyboardInterrupt.");
}

}  // namespace hoirt::bindings
