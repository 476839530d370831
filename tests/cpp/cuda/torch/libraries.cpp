// What torch asks of cuBLAS and cuDNN: handles, descriptors, one algorithm for everything, and launches.
#include <cstdint>
#include <cstring>
#include <memory>

#include "tests/cpp/cuda/torch/nothing.h"

using hoirt::test::torch::Handle;
using hoirt::test::torch::launch_nothing;

namespace {

// Of cuDNN's graph API (cudnn_graph.h).
constexpr int heuristic_results = 202, engine_of_configuration = 300, workspace_of_plan = 402, type_int64 = 3;
constexpr std::int64_t workspace = 1 << 20;

int make(void** handle) { return *handle = std::make_unique<Handle>().release(), 0; }
int drop(void* handle) { return std::unique_ptr<Handle>(static_cast<Handle*>(handle)), 0; }
Handle& of(void* handle) { return *static_cast<Handle*>(handle); }

}  // namespace

extern "C" {
// Stubs of products call it with their first argument.
int hoirt_played_product(void* handle) { return launch_nothing(of(handle).stream); }

int cublasCreate_v2(void** handle) { return make(handle); }
int cublasDestroy_v2(void* handle) { return drop(handle); }
int cublasSetStream_v2(void* handle, cudaStream_t stream) { return of(handle).stream = stream, 0; }
int cublasGetMathMode(void*, int* mode) { return *mode = 0, 0; }
int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, 0; }
std::size_t cublasLtGetVersion() { return 130000; }
int cublasLtCreate(void** handle) { return make(handle); }
int cublasLtMatmulDescCreate(void** descriptor, int, int) { return make(descriptor); }
int cublasLtMatmulDescDestroy(void* descriptor) { return drop(descriptor); }
int cublasLtMatrixLayoutCreate(void** layout, int, std::uint64_t, std::uint64_t, std::int64_t) { return make(layout); }
int cublasLtMatrixLayoutDestroy(void* layout) { return drop(layout); }
int cublasLtMatmulPreferenceCreate(void** preference) { return make(preference); }
int cublasLtMatmulPreferenceDestroy(void* preference) { return drop(preference); }
struct LtHeuristic {
  std::uint64_t algorithm[8];
  std::size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, LtHeuristic* found, int* count) {
  return *found = {}, *count = 1, 0;
}
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*, void*,
                   void*, const void*, void*, std::size_t, cudaStream_t stream) {
  return launch_nothing(stream);
}

int cudnnCreate(void** handle) { return make(handle); }
int cudnnDestroy(void* handle) { return drop(handle); }
int cudnnSetStream(void* handle, cudaStream_t stream) { return of(handle).stream = stream, 0; }
int cudnnGetStream(void* handle, cudaStream_t* stream) { return *stream = of(handle).stream, 0; }
int cudnnBackendCreateDescriptor(int, void** descriptor) { return make(descriptor); }
int cudnnBackendDestroyDescriptor(void* descriptor) { return drop(descriptor); }
int cudnnBackendFinalize(void*) { return 0; }
int cudnnBackendSetAttribute(void*, int, int, std::int64_t, const void*) { return 0; }
// One plan of one engine is found for everything; other attributes are lists of nothing.
int cudnnBackendGetAttribute(void*, int name, int type, std::int64_t wanted, std::int64_t* count, void* to) {
  const bool known = name == heuristic_results || name == engine_of_configuration || name == workspace_of_plan;
  if (count) *count = known ? 1 : 0;
  if (!to || wanted != 1 || name == heuristic_results || name == engine_of_configuration) return 0;
  if (name == workspace_of_plan) return std::memcpy(to, &workspace, sizeof workspace), 0;
  return std::memset(to, 0, type == type_int64 ? 8 : 4), 0;
}
int cudnnBackendExecute(void* handle, void*, void*) { return launch_nothing(of(handle).stream); }
}
