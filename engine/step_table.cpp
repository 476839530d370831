// StepTable: its questions and its checks.
#include "engine/step_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "engine/error.h"

namespace hoirt {
namespace {

constexpr std::size_t most_rows = 100'000;

void check_finite(double value, const std::string& name) {
  if (!std::isfinite(value)) throw InputError("step table: " + name + " must be finite, not " + std::to_string(value));
}

void check_row(const Row& row, std::size_t index) {
  const std::array<std::pair<const char*, double>, 12> columns{{{"timestep", row.timestep},
                                                                {"guidance", row.guidance},
                                                                {"control", row.control},
                                                                {"A", row.A},
                                                                {"B", row.B},
                                                                {"C", row.C},
                                                                {"D", row.D},
                                                                {"E", row.E},
                                                                {"F", row.F},
                                                                {"G", row.G},
                                                                {"H", row.H},
                                                                {"clip", row.clip}}};
  for (const auto& [name, value] : columns) check_finite(value, std::string(name) + "[" + std::to_string(index) + "]");
  if (row.clip < 0) {
    throw InputError("step table: clip[" + std::to_string(index) + "] must be 0 (off) or positive, not " +
                     std::to_string(row.clip));
  }
}

// Features of an unguided row have no unconditional half, so no guided row can go on from them.
void check_reuse(const std::vector<Row>& rows) {
  if (rows.front().reuse) throw InputError("step table: reuse[0] must be False, as no row before it keeps features");
  std::size_t full = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].reuse) {
      full = i;
    } else if (rows[i].guided() && !rows[full].guided()) {
      throw InputError("step table: reuse[" + std::to_string(i) + "] must be False: the row is guided, and row " +
                       std::to_string(full) + ", the last full one, ran without the unconditional half");
    }
  }
}

}  // namespace

bool StepTable::guided() const { return std::ranges::any_of(rows, &Row::guided); }

bool StepTable::uses_known() const { return init_known.has_value() || std::ranges::any_of(rows, &Row::known); }

bool StepTable::reuses() const { return std::ranges::any_of(rows, &Row::reuse); }

std::size_t StepTable::noise_streams() const {
  std::size_t count = init_known ? 2 : 1;
  for (const Row& row : rows) count += (row.F != 0 ? 1u : 0u) + (row.known ? 1u : 0u);
  return count;
}

void StepTable::check() const {
  if (rows.empty() || rows.size() > most_rows) {
    throw InputError("step table: it must have 1 to " + std::to_string(most_rows) + " rows, not " +
                     std::to_string(rows.size()));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) check_row(rows[i], i);
  if (rows.front().E != 0) throw InputError("step table: E[0] must be 0, as no row before it gives an x0");
  check_reuse(rows);
  check_finite(init_signal, "init_signal");
  check_finite(init_noise, "init_noise");
  if (init_known) {
    check_finite(init_known->G, "init_known G");
    check_finite(init_known->H, "init_known H");
  }
}

}  // namespace hoirt
