// Asks the processor.
#include "csrc/cpu/bytes.h"

namespace hoirt::cpu {

bool multiplies_int8() {
#if HOIRT_AVX512_BF16
  return multiplies_bf16() && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace hoirt::cpu
