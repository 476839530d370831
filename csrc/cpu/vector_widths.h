// HOIRT_VECTOR_WIDTHS: compiles a function once per vector width; the widest that the processor has is taken at load
// time. The bits are the same in each, since every operation is rounded alone (-ffp-contract=off). x86-64-v3 is AVX2 with
// fused multiply-add.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define HOIRT_VECTOR_WIDTHS __attribute__((target_clones("avx512f", "arch=x86-64-v3", "default")))
#elif defined(__x86_64__) && defined(__GNUC__)  // older compilers do not know the name; sums of products are calls then
#define HOIRT_VECTOR_WIDTHS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define HOIRT_VECTOR_WIDTHS
#endif
