// Memory and copies of the fake runtime. Device memory is host memory. It is there from when its stream comes to the
// allocation, and until it comes to the free: what is written before is lost, and what is read before or after makes no
// sense. With AddressSanitizer, who reaches beyond it or is early or late is stopped.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "tests/cpp/cuda/fake_runtime.h"
#include "tests/cpp/cuda/fake_state.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) static_cast<void>(address)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) static_cast<void>(address)
#endif

namespace hoirt::test::runtime {
namespace {

#ifdef HOIRT_PLAYED_TORCH
constexpr int before_written = 0;  // torch's kernels write nothing, and zeros are finite
#else
constexpr int before_written = 0xFF;  // no numbers
#endif
constexpr int after_freed = 0xDB;  // large ones
constexpr std::size_t all_memory = std::size_t{1} << 36, most_kept = std::size_t{1} << 26;
constexpr auto alignment = std::align_val_t{256};

struct Free {
  void operator()(std::byte* memory) const { ::operator delete[](memory, alignment); }
};
enum class Life { promised, live, freed };
struct Block {
  std::unique_ptr<std::byte[], Free> memory;
  std::size_t bytes = 0;
  Life life = Life::promised;
};

// All of it is guarded by state().mutex.
struct Memory {
  std::map<const std::byte*, Block> blocks;  // freed ones stay for a while, so that late users are seen
  std::deque<const std::byte*> freed;
  std::size_t freed_bytes = 0;
  std::size_t total = all_memory;
  std::size_t used = 0, cached = 0;  // by live blocks, and by the pool for others to come
  std::map<const std::byte*, std::size_t> pinned;
};
Memory& memory() {
  static Memory& all = *std::make_unique<Memory>().release();
  return all;
}

// The entry of the map that holds the address.
template <typename Map, typename Size>
auto find(Map& map, const void* address, const Size& size) {
  const auto* at = static_cast<const std::byte*>(address);
  auto found = map.upper_bound(at);
  if (found == map.begin()) return map.end();
  --found;
  return at < found->first + size(found->second) ? found : map.end();
}
auto block_of(const void* address) {
  return find(memory().blocks, address, [](const Block& block) { return block.bytes; });
}
bool is_device(const void* address) { return block_of(address) != memory().blocks.end(); }
bool is_pinned(const void* address) {
  return find(memory().pinned, address, [](std::size_t bytes) { return bytes; }) != memory().pinned.end();
}

// Done when the work is: whether the bytes are those of a live block.
void use(const void* address, std::size_t bytes) {
  const auto found = block_of(address);
  if (found == memory().blocks.end()) state().faults.emplace_back("memory was used that nobody allocated");
  else if (found->second.life == Life::promised) state().faults.emplace_back("memory was used before its allocation's turn");
  else if (found->second.life == Life::freed) state().faults.emplace_back("memory was used after it was freed");
  else if (static_cast<const std::byte*>(address) + bytes > found->first + found->second.bytes) {
    state().faults.emplace_back("memory was used beyond its end");
  }
}

cudaError_t take(void** address, std::size_t bytes, CUstream_st& stream) {
  if (const cudaError_t error = outside(stream, "an allocation")) return error;
  if (bytes + memory().used > memory().total) return give(cudaErrorMemoryAllocation);
  Block block{std::unique_ptr<std::byte[], Free>(new (alignment) std::byte[bytes]), bytes};
  ASAN_POISON_MEMORY_REGION(block.memory.get(), bytes);
  *address = block.memory.get();
  memory().used += bytes;
  memory().cached -= std::min(memory().cached, bytes);
  enqueue(stream, [to = block.memory.get(), bytes] {
    const Lock lock(state().mutex);
    ASAN_UNPOISON_MEMORY_REGION(to, bytes);
    std::memset(to, before_written, bytes);
    memory().blocks.at(to).life = Life::live;
  });
  memory().blocks[block.memory.get()] = std::move(block);
  return cudaSuccess;
}

void drop(const void* address) {
  const auto found = memory().blocks.find(static_cast<const std::byte*>(address));
  if (found == memory().blocks.end() || found->second.life != Life::live) {
    state().faults.emplace_back("memory was freed twice, or was none");
    return;
  }
  Block& block = found->second;
  block.life = Life::freed;
  std::memset(block.memory.get(), after_freed, block.bytes);
  ASAN_POISON_MEMORY_REGION(block.memory.get(), block.bytes);
  memory().used -= block.bytes;
  memory().cached += block.bytes;
  memory().freed.push_back(found->first);
  memory().freed_bytes += block.bytes;
  while (memory().freed_bytes > most_kept) {
    const auto oldest = memory().blocks.find(memory().freed.front());
    ASAN_UNPOISON_MEMORY_REGION(oldest->second.memory.get(), oldest->second.bytes);
    memory().freed_bytes -= oldest->second.bytes;
    memory().blocks.erase(oldest);
    memory().freed.pop_front();
  }
}

cudaError_t pin(void** address, std::size_t bytes) {
  *address = std::malloc(bytes);
  if (*address == nullptr) return give(cudaErrorMemoryAllocation);
  memory().pinned[static_cast<const std::byte*>(*address)] = bytes;
  return cudaSuccess;
}

}  // namespace

int live_blocks() {
  const Lock lock(state().mutex);
  int count = 0;
  for (const auto& [address, block] : memory().blocks) count += block.life != Life::freed;
  return count;
}
void limit(std::size_t bytes) {
  const Lock lock(state().mutex);
  memory().total = bytes > 0 ? memory().used + memory().cached + bytes : all_memory;
}
bool has_room(std::size_t bytes) { return memory().used + memory().cached + bytes <= memory().total; }
std::size_t size_of(const void* address) {
  const auto found = block_of(address);
  return found == memory().blocks.end() ? 0 : found->second.bytes;
}
void give_back(std::size_t bytes) { memory().cached -= std::min(memory().cached, bytes); }
void check_use(const void* address, std::size_t bytes) {
  const Lock lock(state().mutex);
  use(address, bytes);
}

}  // namespace hoirt::test::runtime

using namespace hoirt::test::runtime;

extern "C" {
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Lock lock(state().mutex);
  return *total = memory().total, *free = memory().total - memory().used - memory().cached, cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  return *pool = new CUmemPoolHandle_st, cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) { return delete pool, cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) {
  const Lock lock(state().mutex);
  return memory().cached = 0, cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** address, std::size_t bytes, cudaMemPool_t, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaMallocFromPoolAsync")) return error;
  return take(address, bytes, stream_of(stream));
}
cudaError_t cudaFreeAsync(void* address, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = outside(stream_of(stream), "a free")) return error;
  enqueue(stream_of(stream), [address] {
    const Lock freeing(state().mutex);
    drop(address);
  });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** address, std::size_t bytes) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaMallocHost")) return error;
  return pin(address, bytes);
}
cudaError_t cudaHostAlloc(void** address, std::size_t bytes, unsigned) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaHostAlloc")) return error;
  return pin(address, bytes);
}
cudaError_t cudaFreeHost(void* address) {
  const Lock lock(state().mutex);
  memory().pinned.erase(static_cast<const std::byte*>(address));
  return std::free(address), cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const Lock lock(state().mutex);
  *attributes = {};
  if (is_device(address)) attributes->type = cudaMemoryTypeDevice;
  else attributes->type = is_pinned(address) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  attributes->devicePointer = attributes->hostPointer = const_cast<void*>(address);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaMemsetAsync")) return error;
  enqueue(stream_of(stream), [=] {
    const Lock writing(state().mutex);
    use(address, bytes);
    std::memset(address, value, bytes);
  });
  return cudaSuccess;
}
// Pinned memory is read or written when the copy's turn comes; other memory of the host before the call returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaMemcpyAsync")) return error;
  const bool here = kind == cudaMemcpyHostToDevice, there = kind == cudaMemcpyDeviceToHost;
  if (here == is_device(from) || there == is_device(to)) state().faults.emplace_back("a copy is not of the kind that it says");
  CUstream_st& order = stream_of(stream);
  std::shared_ptr<std::vector<std::byte>> kept;
  const bool paged = (here && !is_pinned(from)) || (there && !is_pinned(to));
  if (paged) {
    if (const cudaError_t error = outside(order, "a copy of memory that is not pinned")) return error;
    if (here) kept = std::make_shared<std::vector<std::byte>>(static_cast<const std::byte*>(from),
                                                              static_cast<const std::byte*>(from) + bytes);
  }
  enqueue(order, [=] {
    const Lock copying(state().mutex);
    if (!there) use(to, bytes);
    if (!here) use(from, bytes);
    std::memcpy(to, kept ? kept->data() : from, bytes);
  });
  if (paged && there) run_all(lock, order);
  return cudaSuccess;
}
}
