// HOIRT_VECTOR_WIDTHS: compiles a function once per vector width; the widest that the processor has is taken at load
// time. The bits are the same in each, since every operation is rounded alone (-ffp-contract=off). x86-64-v3 is AVX2 with
// fused multiply-add.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define HOIRT_VECTOR_WIDTHS __attribute__((target_clones("avx512f", "arch=x86-64-v3", "default")))
#else
#define HOIRT_VECTOR_WIDTHS
#endif
