// HOIRT_HD: marks what runs on the host and, compiled by nvcc, on the device.
#pragma once

#ifdef __CUDACC__
#define HOIRT_HD __host__ __device__
#else
#define HOIRT_HD
#endif
