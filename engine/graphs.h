// GraphCache: enqueues the same work again and again, from its second time on as a graph.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "engine/device.h"

namespace hoirt {

class GraphCache {
 public:
  // All that the work depends on and that a graph holds for good: addresses, shapes, which network.
  using Key = std::vector<std::uintptr_t>;

  // Enqueues `body` on the stream: directly when its key is new, as the key may settle only then; else recorded, or as
  // recorded before. If it cannot be recorded it is enqueued directly, and recorded the next time, until that has failed
  // `most_failures` times; a busy device is asked less and less often. Throws what `body` throws when it is enqueued
  // directly. True if a graph was launched.
  bool run(Stream& stream, const std::function<Key()>& key, const std::function<void()>& body);

  // Why the last work was not launched as a graph, although it had run before; else "".
  const std::string& reason() const { return reason_; }
  std::size_t size() const { return entries_.size(); }

  static constexpr std::size_t most = 16;  // keys; the one used longest ago goes first
  static constexpr int most_failures = 3, longest_pause = 64;

 private:
  struct Entry {
    Key key;
    std::unique_ptr<Graph> graph;  // null: not recorded yet
    std::string failure;           // why it was not, the last time
    int failures = 0;
    int pause = 0, next_pause = 1;  // times until a busy device is asked again
  };

  std::list<Entry> entries_;  // most recently used first
  std::string reason_;
};

}  // namespace hoirt
