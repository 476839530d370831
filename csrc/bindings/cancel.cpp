// CancelToken for Python.
#include "engine/cancel.h"

#include <memory>

#include "csrc/bindings/module.h"

namespace py = pybind11;

namespace hoirt::bindings {

void register_cancel(py::module_& module) {
  py::class_<CancelToken, std::shared_ptr<CancelToken>>(
      module, "CancelToken", "Stops a run at its next step; usable from any thread and for any number of runs.")
      .def(py::init())
      .def("cancel", &CancelToken::cancel, "Stops every run that was given this token; there is no way back.")
      .def_property_readonly("cancelled", &CancelToken::cancelled, "Whether cancel() was called.");
}

}  // namespace hoirt::bindings
