// What torch and Triton ask of libcuda.
#include <cuda.h>
#include <dlfcn.h>

#include <cstdio>

#include "tests/cpp/cuda/torch/nothing.h"

using hoirt::test::torch::Handle;
using hoirt::test::torch::launch_nothing;

namespace {

Handle thing;  // stands for all contexts, modules and functions
template <typename T>
CUresult give(T* to) {
  return *to = reinterpret_cast<T>(&thing), CUDA_SUCCESS;
}
CUresult result_of(cudaError_t error) { return static_cast<CUresult>(error); }
long nothing() { return 0; }

}  // namespace

extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, const char** text) { return *text = "fake", CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int index) { return *device = index, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int* count) { return result_of(cudaGetDeviceCount(count)); }
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return result_of(cudaDeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), device));
}
CUresult cuCtxGetCurrent(CUcontext* context) { return give(context); }
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) { return give(context); }
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) { return *flags = 0, *active = 1, CUDA_SUCCESS; }
CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) *static_cast<CUdeviceptr*>(value) = address;
  else *static_cast<int*>(value) = 0;
  return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent_v2(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent_v2(CUcontext* context) { return give(context); }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent* event, unsigned flags) { return result_of(cudaEventCreateWithFlags(event, flags)); }
CUresult cuEventDestroy_v2(CUevent event) { return result_of(cudaEventDestroy(event)); }
CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return result_of(cudaStreamCreateWithFlags(stream, flags)); }
CUresult cuStreamDestroy_v2(CUstream stream) { return result_of(cudaStreamDestroy(stream)); }
CUresult cuStreamSynchronize(CUstream stream) { return result_of(cudaStreamSynchronize(stream)); }

CUresult cuModuleLoad(CUmodule* module, const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  std::fclose(file);
  return give(module);
}
CUresult cuModuleLoadData(CUmodule* module, const void*) { return give(module); }
CUresult cuModuleLoadDataEx(CUmodule* module, const void*, unsigned, CUjit_option*, void**) { return give(module); }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char*) { return give(function); }
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction) {
  return *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0, CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int, std::size_t) {
  return *blocks = 2, CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream stream,
                        void**, void**) {
  return result_of(launch_nothing(stream));
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* shape, CUfunction, void**, void**) {
  return result_of(launch_nothing(shape->hStream));
}
CUresult cuLaunchCooperativeKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                   CUstream stream, void**) {
  return result_of(launch_nothing(stream));
}

// The runtime hands out functions of the driver by name.
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (!*function) *function = reinterpret_cast<void*>(&nothing);
  if (found) *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
}
