// Maps every C++ error to its Python twin in hoirt.errors.
#include "csrc/bindings/module.h"
#include "engine/error.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

void raise(const char* name, const char* message) {
  const py::object type = py::module_::import("hoirt.errors").attr(name);
  PyErr_SetString(type.ptr(), message);
}

}  // namespace

void register_errors(py::module_&) {
  py::register_exception_translator([](std::exception_ptr pending) {
    try {
      if (pending) std::rethrow_exception(pending);
    } catch (const InputError& error) {
      raise("InputError", error.what());
    } catch (const PackError& error) {
      raise("PackError", error.what());
    } catch (const BackendError& error) {
      raise("BackendError", error.what());
    } catch (const Cancelled& error) {
      raise("Cancelled", error.what());
    } catch (const OutOfMemory& error) {
      raise("OutOfMemory", error.what());
    } catch (const Error& error) {
      raise("HoirtError", error.what());
    } catch (const std::bad_alloc&) {
      raise("OutOfMemory", "the machine has no memory left for this request");
    }
  });
}

}  // namespace hoirt::bindings
