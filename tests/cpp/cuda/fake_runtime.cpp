// The runtime's functions, and hoirt's launches, which do nothing.
#include "tests/cpp/cuda/fake_runtime.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "csrc/cuda/launchers.h"

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUmemPoolHandle_st {};

struct CUstream_st {
  std::deque<Work> pending;
  bool capturing = false, broken = false;
  std::vector<Work> captured;
  void run() {
    while (!pending.empty()) {
      const Work work = std::move(pending.front());
      pending.pop_front();
      work();
    }
  }
};
// A point in a stream: once its work is done, `reached` is set.
struct CUevent_st {
  std::shared_ptr<bool> reached = std::make_shared<bool>(true);
  CUstream_st* stream = nullptr;
  bool captured = false;
};

namespace hoirt::test::runtime {
namespace {

struct Block {
  std::unique_ptr<char[]> memory;
  std::size_t bytes;
  bool live;
};

struct State {
  std::vector<std::string> faults;
  std::map<void*, Block> blocks;  // freed ones stay, so that late users are seen
  std::map<std::string, cudaError_t> failures;
  std::map<int, CUstream_st> default_streams;
  int device = 0, waits = 0, graph_size = 0;
  cudaError_t last = cudaSuccess;
};
State& state() {
  static State all;
  return all;
}

cudaError_t give(cudaError_t error) {
  if (error != cudaSuccess) state().last = error;
  return error;
}
cudaError_t injected(const char* name) {
  const auto found = state().failures.find(name);
  if (found == state().failures.end()) return cudaSuccess;
  const cudaError_t error = found->second;
  state().failures.erase(found);
  return give(error);
}

CUstream_st& stream_of(cudaStream_t stream) { return stream ? *stream : state().default_streams[state().device]; }

void enqueue(CUstream_st& stream, Work work) {
  if (stream.capturing) stream.captured.push_back(std::move(work));
  else stream.pending.push_back(std::move(work));
}

// What waits, or belongs to no graph, ends the capture of the stream.
cudaError_t outside(CUstream_st& stream, const std::string& what) {
  if (!stream.capturing) return cudaSuccess;
  stream.broken = true;
  state().faults.push_back(what + " in a capture");
  return give(cudaErrorStreamCaptureUnsupported);
}

void use(const void* address) {
  for (const auto& [begin, block] : state().blocks) {
    const auto* first = static_cast<const char*>(begin);
    if (address < first || address >= first + block.bytes) continue;
    if (!block.live) state().faults.emplace_back("memory was used after it was freed");
  }
}

cudaError_t take(void** memory, std::size_t bytes, CUstream_st& stream) {
  if (const cudaError_t error = outside(stream, "an allocation")) return error;
  auto made = std::make_unique<char[]>(bytes);
  *memory = made.get();
  state().blocks[*memory] = {std::move(made), bytes, true};
  return cudaSuccess;
}

}  // namespace

std::vector<std::string>& faults() { return state().faults; }
int waits() { return state().waits; }
int graph_size() { return state().graph_size; }
int live_blocks() {
  int count = 0;
  for (const auto& [memory, block] : state().blocks) count += block.live;
  return count;
}
void fail_next(const std::string& name, cudaError_t error) { state().failures[name] = error; }
void touch(void* block, void* stream) {
  enqueue(stream_of(static_cast<cudaStream_t>(stream)), [block] { use(block); });
}

}  // namespace hoirt::test::runtime

using namespace hoirt::test::runtime;

extern "C" {
cudaError_t cudaGetDevice(int* device) { return *device = state().device, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return state().device = device, cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  static cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
  return std::swap(*mode, current), cudaSuccess;
}
cudaError_t cudaGetLastError() { return std::exchange(state().last, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t) { return "fake"; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 1, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  return std::strcpy(properties->name, "fake"), cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) { return *free = 1, *total = 2, cudaSuccess; }
cudaError_t cudaDeviceGraphMemTrim(int) { return cudaSuccess; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = new CUstream_st, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return stream->run(), delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = outside(stream_of(stream), "a wait")) return error;
  ++state().waits;
  return stream_of(stream).run(), cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream_of(stream).capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t to, cudaEvent_t event, unsigned) {
  CUstream_st& stream = stream_of(to);
  if (event->captured) {
    if (event->stream != &stream) {
      event->stream->broken = true;
      state().faults.emplace_back("a stream joined a capture");
    }
  } else if (stream.capturing) {
    stream.broken = true;
    return give(cudaErrorStreamCaptureIsolation);
  } else {
    enqueue(stream, [reached = event->reached, from = event->stream] {
      if (!*reached) from->run();
    });
  }
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = injected("cudaEventRecord")) return error;
  event->stream = &stream_of(stream);
  event->captured = event->stream->capturing;
  event->reached = std::make_shared<bool>(false);
  enqueue(*event->stream, [reached = event->reached] { *reached = true; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return *event->reached ? cudaSuccess : give(cudaErrorNotReady); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (!*event->reached) event->stream->run();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return stream->capturing = true, stream->broken = false, stream->captured.clear(), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->capturing = false;
  *graph = nullptr;
  if (stream->broken) return give(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::exchange(stream->captured, {})};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  if (const cudaError_t error = injected("cudaGraphInstantiate")) return error;
  state().graph_size = static_cast<int>(graph->work.size());
  return *made = new CUgraphExec_st{graph->work}, cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  for (const Work& work : graph->work) enqueue(*stream, work);
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) { return *pool = new CUmemPoolHandle_st, cudaSuccess; }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) { return delete pool, cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }
cudaError_t cudaMallocFromPoolAsync(void** memory, std::size_t bytes, cudaMemPool_t, cudaStream_t stream) {
  if (const cudaError_t error = injected("cudaMallocFromPoolAsync")) return error;
  return take(memory, bytes, stream_of(stream));
}
cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream) {
  return take(memory, bytes, stream_of(stream));
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  if (const cudaError_t error = outside(stream_of(stream), "a free")) return error;
  enqueue(stream_of(stream), [memory] { state().blocks.at(memory).live = false; });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  if (const cudaError_t error = injected("cudaMallocHost")) return error;
  return *memory = std::malloc(bytes), cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) { return *memory = std::malloc(bytes), cudaSuccess; }
cudaError_t cudaFreeHost(void* memory) { return std::free(memory), cudaSuccess; }
// What is on the host is pinned: it is read when the copy is done.
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  enqueue(stream_of(stream), [=] {
    use(memory);
    std::memset(memory, value, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (const cudaError_t error = injected("cudaMemcpyAsync")) return error;
  enqueue(stream_of(stream), [=] {
    use(to), use(from);
    std::memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
}

namespace hoirt::cuda {

int device_count() { return 2; }
void check_kernels() {}
void guided_step(const kernels::GuidedStep&, void*) {}
void select_row(const kernels::SelectRow&, void*) {}
void feed_step(const kernels::FeedStep&, void*) {}
void copy_items(const kernels::CopyItems& copy, void* stream) { test::runtime::touch(copy.to, stream); }
void broadcast(const kernels::Broadcast&, void*) {}
void all_within(const float*, std::int64_t, float, float, std::int32_t*, void*) {}
void paste(const kernels::Paste&, void*) {}
void resize(const ResizeJob&, void*) {}
void match_colours(const ColourJob&, void*) {}
void normalise(const NormaliseJob&, void*) {}
void colours(const ColoursJob&, void*) {}
void pad_edge(const kernels::PadEdge&, void*) {}
void sample_posterior(const kernels::SamplePosterior&, void*) {}
void map(const MapJob&, void*) {}
void draw(const DrawJob&, void*) {}

}  // namespace hoirt::cuda
