// What torch asks of the CUDA runtime beyond what csrc/cuda does.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "tests/cpp/cuda/fake_state.h"
#include "tests/cpp/cuda/torch/nothing.h"

using namespace hoirt::test::runtime;
using hoirt::test::torch::launch_nothing;

namespace {

struct Shape {
  dim3 blocks, threads;
  std::size_t shared;
  void* stream;
};
thread_local std::vector<Shape> shapes;  // of the launch that is being made

void run_everything(Lock& lock) {
  for (CUstream_st* stream : std::vector(state().streams.begin(), state().streams.end())) run_all(lock, *stream);
  for (auto& [device, stream] : state().default_streams) run_all(lock, stream);
}

}  // namespace

extern "C" {
const char* hoirt_played_torch_faults() {
  thread_local std::string text;
  text.clear();
  for (const std::string& fault : take_faults()) text += fault + "\n";
  return text.c_str();
}

void hoirt_played_torch_limit(std::size_t bytes) { limit(bytes); }

cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaPeekAtLastError() {
  const cudaError_t error = cudaGetLastError();
  return give(error);
}
cudaError_t cudaDeviceGetPCIBusId(char* name, int size, int) {
  return std::strncpy(name, "0000:00:00.0", static_cast<std::size_t>(size)), cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
// Of no device may any stream record: such a wait ends the recording, whatever its mode.
cudaError_t cudaDeviceSynchronize() {
  Lock lock(state().mutex);
  for (CUstream_st* stream : state().streams) {
    if (const cudaError_t error = outside(*stream, "a wait for the device")) return error;
  }
  ++state().waits;
  return run_everything(lock), cudaSuccess;
}
cudaError_t cudaFree(void* address) {
  if (!address) return cudaSuccess;
  Lock lock(state().mutex);
  if (const cudaError_t error = outside_of_all("a free")) return error;
  run_everything(lock);
  const std::size_t bytes = size_of(address);
  lock.unlock();
  cudaFreeAsync(address, nullptr);
  cudaStreamSynchronize(nullptr);
  lock.lock();
  return give_back(bytes), cudaSuccess;
}
cudaError_t cudaMalloc(void** address, std::size_t bytes) {
  {
    const Lock lock(state().mutex);
    if (const cudaError_t error = outside_of_all("an allocation")) return error;
    if (!has_room(bytes)) return give(cudaErrorMemoryAllocation);
  }
  if (const cudaError_t error = cudaMallocFromPoolAsync(address, bytes, nullptr, nullptr)) return error;
  return cudaStreamSynchronize(nullptr);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { return *priority = 0, cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Lock lock(state().mutex);
  CUstream_st& asked = stream_of(stream);
  if (const cudaError_t error = outside(asked, "a question to a stream")) return error;
  return run_all(lock, asked), cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges,
                                     std::size_t* count) {
  const Lock lock(state().mutex);
  const Capture* capture = stream_of(stream).capture.get();
  *status = capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  if (id) *id = reinterpret_cast<std::uintptr_t>(capture);
  if (graph) *graph = nullptr;
  if (nodes) *nodes = nullptr;
  if (edges) *edges = nullptr;
  if (count) *count = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t call, void* data, unsigned) {
  return enqueue(stream, [=] { call(stream, cudaSuccess, data); }), cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t call, void* data) {
  return enqueue(stream, [=] { call(data); }), cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
// Never nothing: benchmarks divide by it.
cudaError_t cudaEventElapsedTime(float* time, cudaEvent_t from, cudaEvent_t to) {
  const std::chrono::duration<float, std::milli> taken = to->point->when - from->point->when;
  return *time = std::max(0.05F, taken.count()), cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiate(made, graph, flags);
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, std::size_t* count) {
  return *count = graph->work.size(), cudaSuccess;
}

cudaError_t cudaMemset(void* address, int value, std::size_t bytes) { return cudaMemsetAsync(address, value, bytes, nullptr); }
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr)) return error;
  return cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, std::size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  static CUmemPoolHandle_st only;
  return *pool = &only, cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  return std::memset(value, 0, sizeof(std::uint64_t)), cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void** address, const void*) {
  static std::byte constants[1 << 16];
  return *address = constants, cudaSuccess;
}

// Kernels: registered when a library is loaded, and launched by `<<<>>>`.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  attributes->maxDynamicSharedSizeBytes = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t, unsigned) {
  return *blocks = 2, cudaSuccess;
}
void** __cudaRegisterFatBinary(void*) {
  static void* library = nullptr;
  return &library;
}
unsigned __cudaPushCallConfiguration(dim3 blocks, dim3 threads, std::size_t shared, CUstream_st* stream) {
  return shapes.push_back({blocks, threads, shared, stream}), 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* blocks, dim3* threads, std::size_t* shared, void* stream) {
  const Shape shape = shapes.back();
  shapes.pop_back();
  *blocks = shape.blocks, *threads = shape.threads, *shared = shape.shared;
  return *static_cast<void**>(stream) = shape.stream, cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  return *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function)), cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t stream) {
  return launch_nothing(stream);
}
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, std::size_t, cudaStream_t stream) {
  return launch_nothing(stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* shape, const void*, void**) { return launch_nothing(shape->stream); }
}
