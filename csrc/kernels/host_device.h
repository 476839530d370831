// HOIRT_HD: marks what runs on the host and, compiled by nvcc, on the device. HOIRT_UNROLL: before a loop whose rounds
// are known, so that on the device its arrays become registers.
#pragma once

#ifdef __CUDACC__
#define HOIRT_HD __host__ __device__
#else
#define HOIRT_HD
#endif

#ifdef __CUDA_ARCH__
#define HOIRT_UNROLL _Pragma("unroll")
#else
#define HOIRT_UNROLL
#endif
