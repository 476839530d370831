// StepTable from any Python object with the table's columns.
#pragma once

#include <pybind11/pybind11.h>

#include "engine/step_table.h"

namespace hoirt::bindings {

// A _core.StepTable, or any object with the columns as attributes. Throws InputError.
StepTable table_from(const pybind11::object& object);

}  // namespace hoirt::bindings
