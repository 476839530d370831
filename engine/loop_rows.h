// The rows of a step table as the kernels read them.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/kernels/step_row.h"
#include "engine/step_table.h"

namespace hoirt {

// The initial state, then the table's rows. Every draw gets its Philox stream and, with the caller's own noise, the next
// `state_size` elements of it. x0 is kept where the next row reads it, or in all rows if `keep_clean`.
std::vector<kernels::StepRow> rows_of(const StepTable& table, bool own_noise, std::int64_t state_size, bool keep_clean);

}  // namespace hoirt
