// StepTable for Python: built from columns, by keyword or from any object that has them as attributes.
#include "csrc/bindings/step_table.h"

#include <pybind11/stl.h>

#include <array>
#include <string>
#include <vector>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "engine/error.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

template <typename T>
struct ColumnOf {
  const char* name;
  T Row::*member;
};
using Column = ColumnOf<double>;
using Flag = ColumnOf<bool>;

constexpr std::array<Column, 12> columns{{{"timestep", &Row::timestep},
                                          {"guidance", &Row::guidance},
                                          {"control", &Row::control},
                                          {"A", &Row::A},
                                          {"B", &Row::B},
                                          {"C", &Row::C},
                                          {"D", &Row::D},
                                          {"E", &Row::E},
                                          {"F", &Row::F},
                                          {"G", &Row::G},
                                          {"H", &Row::H},
                                          {"clip", &Row::clip}}};
constexpr std::array<Flag, 2> flags{{{"known", &Row::known}, {"reuse", &Row::reuse}}};

// One column as float64 (or bool as 0 and 1); `rows` is set by the first and required of the others.
std::vector<double> read_column(const py::object& values, const std::string& name, std::optional<std::size_t>& rows) {
  std::vector<double> column;
  try {
    const py::array_t<double, py::array::c_style | py::array::forcecast> array(values);
    if (array.ndim() != 1) throw InputError("step table: " + name + " must have one axis (S,)");
    column.assign(array.data(), array.data() + array.size());
  } catch (const py::error_already_set& error) {
    throw InputError("step table: " + name + " must be an array of numbers (S,): " + error.what());
  }
  if (rows && *rows != column.size()) {
    throw InputError("step table: " + name + " has " + std::to_string(column.size()) + " rows, timestep has " +
                     std::to_string(*rows));
  }
  rows = column.size();
  return column;
}

double read_number(const py::object& value, const std::string& name) {
  try {
    return py::cast<double>(py::float_(value));
  } catch (const py::error_already_set&) {
    throw InputError("step table: " + name + " must be a number");
  }
}

// `get(name)` gives a column or scalar, or throws InputError.
template <typename Get>
StepTable build(const Get& get) {
  StepTable table;
  std::optional<std::size_t> rows;
  for (const Column& column : columns) {
    const std::vector<double> values = read_column(get(column.name), column.name, rows);
    table.rows.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) table.rows[i].*column.member = values[i];
  }
  for (const Flag& flag : flags) {
    const std::vector<double> values = read_column(get(flag.name), flag.name, rows);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] != 0 && values[i] != 1) {
        throw InputError("step table: " + std::string(flag.name) + " must hold booleans");
      }
      table.rows[i].*flag.member = values[i] != 0;
    }
  }
  table.init_signal = read_number(get("init_signal"), "init_signal");
  table.init_noise = read_number(get("init_noise"), "init_noise");
  const py::object level = get("init_known");
  if (!level.is_none()) {
    if (!PySequence_Check(level.ptr()) || py::len(level) != 2) {
      throw InputError("step table: init_known must be None or the pair (G, H)");
    }
    const auto pair = py::reinterpret_borrow<py::sequence>(level);
    table.init_known = KnownLevel{read_number(pair[0], "init_known G"), read_number(pair[1], "init_known H")};
  }
  table.check();
  return table;
}

StepTable from_columns(const py::KWArgs<OptionalArray>& named) {
  for (const auto item : named) {
    const std::string name = py::str(item.first);
    const auto is_named = [&](const auto& column) { return name == column.name; };
    const bool is_column = std::ranges::any_of(columns, is_named) || std::ranges::any_of(flags, is_named);
    if (!is_column && name != "init_signal" && name != "init_noise" && name != "init_known") {
      throw InputError("step table: unknown column '" + name + "'");
    }
  }
  if (!named.contains("timestep")) throw InputError("step table: timestep is missing");
  const py::object shape = py::module_::import("numpy").attr("shape")(named["timestep"]);
  const auto constant = [&shape](double value) -> py::object {
    return py::module_::import("numpy").attr("full")(shape, value);
  };
  return build([&](const std::string& name) -> py::object {
    if (named.contains(name)) return named[name.c_str()];
    if (name == "init_known") return py::none();
    if (name == "init_signal") return py::float_(0.0);
    if (name == "init_noise") return py::float_(1.0);
    return constant(name == "guidance" || name == "control" ? 1.0 : 0.0);
  });
}

template <typename T>
py::array_t<T> column_of(const StepTable& table, const auto& read) {
  py::array_t<T> out(static_cast<py::ssize_t>(table.rows.size()));
  for (std::size_t i = 0; i < table.rows.size(); ++i) out.mutable_at(i) = read(table.rows[i]);
  return out;
}

}  // namespace

StepTable table_from(const py::object& object) {
  if (py::isinstance<StepTable>(object)) return py::cast<StepTable>(object);
  return build([&object](const std::string& name) -> py::object {
    if (!py::hasattr(object, name.c_str())) {
      // A table made before there was reuse has no such column.
      if (name == "reuse" && py::hasattr(object, "known")) return py::module_::import("numpy").attr("zeros_like")(object.attr("known"));
      throw InputError("step table: the object given has no '" + name + "'");
    }
    return object.attr(name.c_str());
  });
}

void register_step_table(py::module_& module) {
  py::class_<StepTable> table(
      module, "StepTable",
      "A sampler as data: one row of coefficients per step, read-only.\n\n"
      "    out = u + guidance (c - u)          guidance == 1: only c is computed\n"
      "    x0  = A x + B out                   clamped to +-clip if clip > 0\n"
      "    x'  = C x + D x0 + E x0_prev + F n\n"
      "    x'  = m x' + (1 - m)(G z + H n')    in rows that are `known`\n"
      "and x_init = init_signal * given state + init_noise * n, then the known region at init_known = (G, H).\n"
      "Rows with `reuse` run the loop's shallow network on the features that the last row without it kept.");
  table
      .def_static("from_columns", &from_columns,
                  "From columns (S,) by name; left out: guidance and control 1, others 0, known and reuse\n"
                  "False, init_signal 0, init_noise 1, init_known None. Raises InputError.")
      .def_static("of", [](const TableLike& object) { return table_from(object); }, py::arg("table"),
                  "From any object with every column (reuse may be missing) and scalar as an attribute. Raises InputError.")
      .def("__len__", [](const StepTable& self) { return self.rows.size(); })
      .def_property_readonly("guided", &StepTable::guided, "Whether some row runs the unconditional half.")
      .def_property_readonly("noise_streams", &StepTable::noise_streams,
                             "How many draws of the state's shape a run makes: the length of `noise`.")
      .def_readonly("init_signal", &StepTable::init_signal)
      .def_readonly("init_noise", &StepTable::init_noise)
      .def_property_readonly("init_known", [](const StepTable& self) -> std::optional<std::pair<double, double>> {
        if (!self.init_known) return std::nullopt;
        return std::pair(self.init_known->G, self.init_known->H);
      });
  for (const Column& column : columns) {
    table.def_property_readonly(column.name, [member = column.member](const StepTable& self) {
      return column_of<double>(self, [member](const Row& row) { return row.*member; });
    });
  }
  for (const Flag& flag : flags) {
    table.def_property_readonly(flag.name, [member = flag.member](const StepTable& self) {
      return column_of<bool>(self, [member](const Row& row) { return row.*member; });
    });
  }
}

}  // namespace hoirt::bindings
