// How the maps of a region are made on whatever device: `Runner` launches functors and gives scratch memory.
#pragma once

#include <cstdint>

#include "csrc/kernels/picture_plan.h"
#include "engine/map_jobs.h"

namespace hoirt::kernels {

template <typename Runner>
void run(Runner& run, const DistanceJob& job) {
  const NearestPixel& nearest = job.nearest;
  const auto pixels = static_cast<std::size_t>(nearest.height * nearest.width);
  auto* squares = static_cast<std::int32_t*>(run.scratch(pixels * sizeof(std::int32_t)));
  run.launch(OverPixels<ColumnDistance>{{nearest, squares}}, nearest.height, nearest.width);
  job.visit([&](const auto& as, auto* out) {
    using Row = RowDistance<std::decay_t<decltype(as)>>;
    run.launch(OverPixels<Row>{{nearest, squares, out, as}}, nearest.height, nearest.width);
  });
}
template <typename Runner, typename Functor>
void run(Runner& run, const Functor& functor) {
  run.launch(OverPixels<Functor>{functor}, functor.row_count(), functor.column_count());
}

template <typename Runner>
void run_map(Runner& runner, const MapJob& job) {
  std::visit([&](const auto& each) { run(runner, each); }, job);
}

}  // namespace hoirt::kernels
