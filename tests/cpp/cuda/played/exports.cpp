// What tests in Python ask of the played GPU, by ctypes (tests/played_cuda.py).
#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <string>

#include "tests/cpp/cuda/fake_runtime.h"

namespace hoirt::test {

bool next_is_reversed() {
  static std::atomic<unsigned> launches{0};
  return launches++ % 2 == 1;
}

}  // namespace hoirt::test

#define PLAYED extern "C" __attribute__((visibility("default")))
namespace runtime = hoirt::test::runtime;

// What went wrong since the last call, line by line; it stays until the next one.
PLAYED const char* hoirt_played_faults() {
  thread_local std::string text;
  text.clear();
  for (const std::string& fault : runtime::take_faults()) text += fault + "\n";
  return text.c_str();
}
PLAYED void hoirt_played_fail(const char* name, int number, int error) {
  runtime::fail(name, number, static_cast<cudaError_t>(error));
}
PLAYED void hoirt_played_limit(std::size_t bytes) { runtime::limit(bytes); }
PLAYED bool hoirt_played_calm() { return runtime::calm(); }
PLAYED int hoirt_played_live_blocks() { return runtime::live_blocks(); }
PLAYED bool hoirt_played_is_recording(void* stream) { return runtime::is_recording(static_cast<cudaStream_t>(stream)); }
// As cudaLaunchHostFunc: the function is called when the stream comes to it, and again by each replay of a graph.
PLAYED void hoirt_played_enqueue(void* stream, void (*work)(void*), void* data) {
  runtime::enqueue(static_cast<cudaStream_t>(stream), [=] { work(data); });
}
// For such a function: whether it may use these bytes now is among the faults.
PLAYED void hoirt_played_check_use(const void* address, std::size_t bytes) { runtime::check_use(address, bytes); }
// As cuMemcpyDtoDAsync.
PLAYED int hoirt_played_copy(void* to, const void* from, std::size_t bytes, void* stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream));
}
