// HOIRT_VECTOR_WIDTHS: compiles a function once per vector width; the widest that the processor has is taken at load
// time. The bits are the same in each, since every operation is rounded alone (-ffp-contract=off).
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define HOIRT_VECTOR_WIDTHS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define HOIRT_VECTOR_WIDTHS
#endif
