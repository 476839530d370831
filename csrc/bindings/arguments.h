// Argument types that say in the stubs what they take and in their errors what was wrong.
#pragma once

#include <pybind11/pybind11.h>

namespace hoirt::bindings {

inline int accept_any(PyObject*) { return 1; }

// Each is a py::object; only the name in the signature differs.
class ArrayLike : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(ArrayLike, object, accept_any)
};
class OptionalArray : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(OptionalArray, object, accept_any)
};
class ArrayMap : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(ArrayMap, object, accept_any)
};
class IntegerSequence : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(IntegerSequence, object, accept_any)
};
class Integer : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(Integer, object, accept_any)
};
class StepCallback : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(StepCallback, object, accept_any)
};
class NetworkFunction : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(NetworkFunction, object, accept_any)
};
class DeviceFunction : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(DeviceFunction, object, accept_any)
};
class TableLike : public pybind11::object {
  PYBIND11_OBJECT_DEFAULT(TableLike, object, accept_any)
};

}  // namespace hoirt::bindings

#define HOIRT_ARGUMENT_NAME(type, text)               \
  template <>                                         \
  struct pybind11::detail::handle_type_name<type> {   \
    static constexpr auto name = const_name(text);    \
  };

HOIRT_ARGUMENT_NAME(hoirt::bindings::ArrayLike, "numpy.typing.ArrayLike")
HOIRT_ARGUMENT_NAME(hoirt::bindings::OptionalArray, "numpy.typing.ArrayLike | None")
HOIRT_ARGUMENT_NAME(hoirt::bindings::ArrayMap, "collections.abc.Mapping[str, numpy.typing.ArrayLike]")
HOIRT_ARGUMENT_NAME(hoirt::bindings::IntegerSequence, "collections.abc.Iterable[typing.SupportsIndex]")
HOIRT_ARGUMENT_NAME(hoirt::bindings::Integer, "typing.SupportsIndex")
HOIRT_ARGUMENT_NAME(hoirt::bindings::StepCallback, "collections.abc.Callable[[StepInfo], object] | None")
HOIRT_ARGUMENT_NAME(hoirt::bindings::NetworkFunction,
                    "collections.abc.Callable[[dict[str, numpy.ndarray]], "
                    "collections.abc.Mapping[str, numpy.typing.ArrayLike]]")
HOIRT_ARGUMENT_NAME(hoirt::bindings::DeviceFunction,
                    "collections.abc.Callable[[dict[str, typing.Any], dict[str, typing.Any], int], "
                    "collections.abc.Mapping[str, typing.Any] | None]")
HOIRT_ARGUMENT_NAME(hoirt::bindings::TableLike, "typing.Any")

#undef HOIRT_ARGUMENT_NAME
