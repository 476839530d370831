// softmax(q k^T) v in int8: as attention.h, with products of twice the rate.
#pragma once

#include "csrc/cpu/attention.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// Takes and gives bfloat16. Queries are rounded with a scale each, keys with one for every 128 after their mean is taken
// off (which no softmax sees), values with one for every channel, and weights to 254ths of the largest of 128, so that one
// large weight does not swallow many small ones elsewhere. After Zhang et al., "SageAttention", 2024, whose weights and
// values stay float16. Needs multiplies_int8(); the size of a head must be a multiple of 8. The bits do not depend on the
// threads.
void attention_int8(const Attention& job, const Parallel& parallel);

}  // namespace hoirt::cpu
