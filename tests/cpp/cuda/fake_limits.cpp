// What the fake runtime says of its devices: two, with the limits of an H200.
#include <cuda_runtime.h>

#include <cstring>
#include <string>

namespace {

struct Limit {
  cudaDeviceAttr attribute;
  int value;
};
constexpr Limit limits[] = {
    {cudaDevAttrMaxThreadsPerBlock, 1024},
    {cudaDevAttrMaxBlockDimX, 1024},
    {cudaDevAttrMaxBlockDimY, 1024},
    {cudaDevAttrMaxBlockDimZ, 64},
    {cudaDevAttrMaxGridDimX, 2147483647},
    {cudaDevAttrMaxGridDimY, 65535},
    {cudaDevAttrMaxGridDimZ, 65535},
    {cudaDevAttrMaxSharedMemoryPerBlock, 48 << 10},
    {cudaDevAttrMaxSharedMemoryPerBlockOptin, 227 << 10},
    {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 228 << 10},
    {cudaDevAttrWarpSize, 32},
    {cudaDevAttrMaxRegistersPerBlock, 65536},
    {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
    {cudaDevAttrClockRate, 1980000},
    {cudaDevAttrMultiProcessorCount, 132},
    {cudaDevAttrMemoryClockRate, 3201000},
    {cudaDevAttrGlobalMemoryBusWidth, 6144},
    {cudaDevAttrL2CacheSize, 50 << 20},
    {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
    {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
    {cudaDevAttrComputeCapabilityMajor, 9},
    {cudaDevAttrComputeCapabilityMinor, 0},
    {cudaDevAttrTextureAlignment, 512},
};

int limit(cudaDeviceAttr attribute) {
  for (const Limit& known : limits) {
    if (known.attribute == attribute) return known.value;
  }
  return 1;  // what a device can do, it can
}

}  // namespace

extern "C" {
cudaError_t cudaGetDeviceCount(int* count) { return *count = 2, cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorMemoryAllocation) return "out of memory";
  thread_local std::string text;
  return (text = "fake error " + std::to_string(error)).c_str();
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  return *value = limit(attribute), cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "played by the CPU");
  properties->totalGlobalMem = std::size_t{1} << 36;
  properties->major = limit(cudaDevAttrComputeCapabilityMajor);
  properties->multiProcessorCount = limit(cudaDevAttrMultiProcessorCount);
  properties->warpSize = limit(cudaDevAttrWarpSize);
  properties->maxThreadsPerBlock = limit(cudaDevAttrMaxThreadsPerBlock);
  properties->maxThreadsPerMultiProcessor = limit(cudaDevAttrMaxThreadsPerMultiProcessor);
  properties->maxBlocksPerMultiProcessor = limit(cudaDevAttrMaxBlocksPerMultiprocessor);
  properties->sharedMemPerBlock = static_cast<std::size_t>(limit(cudaDevAttrMaxSharedMemoryPerBlock));
  properties->sharedMemPerBlockOptin = static_cast<std::size_t>(limit(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  properties->sharedMemPerMultiprocessor = static_cast<std::size_t>(limit(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
  properties->regsPerBlock = limit(cudaDevAttrMaxRegistersPerBlock);
  properties->regsPerMultiprocessor = limit(cudaDevAttrMaxRegistersPerMultiprocessor);
  properties->l2CacheSize = limit(cudaDevAttrL2CacheSize);
  properties->memoryBusWidth = limit(cudaDevAttrGlobalMemoryBusWidth);
  properties->textureAlignment = static_cast<std::size_t>(limit(cudaDevAttrTextureAlignment));
  for (int axis = 0; axis < 3; ++axis) {
    properties->maxThreadsDim[axis] = axis < 2 ? limit(cudaDevAttrMaxBlockDimX) : limit(cudaDevAttrMaxBlockDimZ);
    properties->maxGridSize[axis] = axis < 1 ? limit(cudaDevAttrMaxGridDimX) : limit(cudaDevAttrMaxGridDimY);
  }
  return cudaSuccess;
}
}
