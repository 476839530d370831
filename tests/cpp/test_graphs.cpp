// GraphCache: when the same work is recorded, and how much of it is kept.
#include "engine/graphs.h"

#include "tests/cpp/check.h"
#include "tests/cpp/fake_device.h"

using namespace hoirt;
using test::FakeDevice;
using test::FakeStream;

TEST(a_busy_device_is_asked_less_and_less_often) {
  FakeDevice device;
  device.counts->busy_captures = 1000;
  GraphCache cache;
  int done = 0;
  for (int time = 0; time < 200; ++time) {
    const bool launched = cache.run(device.stream(), [] { return GraphCache::Key{1}; },
                                    [&] { static_cast<FakeStream&>(device.stream()).enqueue([&done] { ++done; }); });
    CHECK(!launched && (time == 0 || !cache.reason().empty()));
  }
  const int asked = 1000 - device.counts->busy_captures;
  CHECK(asked == 8);  // with 1, 2, 4, ..., 64 times between
  device.counts->busy_captures = 0;
  bool launched = false;
  for (int time = 0; time < GraphCache::longest_pause + 2 && !launched; ++time) {
    launched = cache.run(device.stream(), [] { return GraphCache::Key{1}; }, [] {});
  }
  device.stream().synchronize();
  CHECK(launched && done == 200);
}

TEST(graph_cache_is_bounded) {
  FakeDevice device;
  Stream& stream = device.stream();
  GraphCache cache;
  int done = 0;
  for (int round = 0; round < 3; ++round) {
    for (std::uintptr_t key = 0; key < 40; ++key) {
      cache.run(stream, [key] { return GraphCache::Key{key}; },
                [&] { static_cast<FakeStream&>(stream).enqueue([&done] { ++done; }); });
    }
  }
  stream.synchronize();
  CHECK(done == 120 && cache.size() == GraphCache::most);
}
