// GraphCache.
#include "engine/graphs.h"

#include <algorithm>
#include <utility>

namespace hoirt {

bool GraphCache::run(Stream& stream, const std::function<Key()>& key, const std::function<void()>& body) {
  reason_.clear();
  const auto found = std::ranges::find(entries_, key(), &Entry::key);
  if (found == entries_.end()) {
    body();
    Key settled = key();
    if (std::ranges::find(entries_, settled, &Entry::key) != entries_.end()) return false;
    // A graph that is dropped may still run on the stream.
    if (entries_.size() >= most) {
      stream.synchronize();
      entries_.pop_back();
    }
    entries_.push_front({std::move(settled), nullptr, {}});
    return false;
  }
  entries_.splice(entries_.begin(), entries_, found);
  Entry& entry = entries_.front();
  if (entry.pause > 0) {
    --entry.pause;
  } else if (!entry.graph && entry.failures < most_failures) {
    ++entry.failures;
    try {
      entry.graph = stream.capture(body);
      if (!entry.graph) entry.failure = "the device records no graphs";
    } catch (const Interruption&) {
      throw;
    } catch (const DeviceBusy& busy) {
      --entry.failures;
      entry.failure = busy.what();
      entry.pause = entry.next_pause;
      entry.next_pause = std::min(2 * entry.next_pause, longest_pause);
    } catch (const std::exception& error) {
      entry.failure = *error.what() ? error.what() : "the step could not be recorded";
    }
  }
  if (entry.graph) {
    entry.graph->launch();
    return true;
  }
  reason_ = entry.failure;
  body();
  return false;
}

}  // namespace hoirt
