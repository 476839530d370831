// How resizing and colour match go, step by step, on whatever device: `Runner` launches functors and gives scratch
// memory. A runner that is `wide` gives each thread a span of 16 bytes, another one its items one after another. So the
// CPU's tests cover the plan that CUDA runs.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "csrc/kernels/colour.h"
#include "csrc/kernels/latents.h"
#include "csrc/kernels/pad_edge.h"
#include "csrc/kernels/paste.h"
#include "csrc/kernels/pictures.h"
#include "csrc/kernels/resize.h"
#include "engine/picture_jobs.h"

namespace hoirt::kernels {

// How a runner on the host launches: everything on the calling thread, one after another.
struct HostLaunches {
  template <typename Body>
  void launch(const Body& body, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) body.at(i);
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t rows, std::int64_t columns) {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = 0; i < columns; ++i) body.at(row, i);
    }
  }
};

// Functors as what a runner launches, over rows and columns or over a flat index.
template <typename Functor>
struct OverPixels {
  Functor functor;
  HOIRT_HD void at(std::int64_t row, std::int64_t column) const { functor(row, column); }
};
template <typename Functor>
struct OverElements {
  Functor functor;
  HOIRT_HD void at(std::int64_t i) const { functor(i); }
};
// What both axes of a resize need.
template <typename Table>
struct OverAxes {
  Table columns, rows;
  std::int64_t of_columns;  // of the items of both
  HOIRT_HD void at(std::int64_t i) const {
    if (i < of_columns) columns(i);
    else rows(i - of_columns);
  }
};
template <typename Functor>
struct OverSpans {
  Functor functor;
  HOIRT_HD void at(std::int64_t row, std::int64_t i) const { functor.write(row, i); }
};
template <typename T, int width>
struct OverPass {
  ResizePass<T> pass;
  HOIRT_HD void at(std::int64_t row, std::int64_t i) const {
    pass.template operator()<width>(row / pass.out_size, row % pass.out_size, i);
  }
};

template <typename Runner, typename Functor>
void run_spans(Runner& run, const Functor& functor) {
  run.launch(OverSpans<Functor>{functor}, functor.row_count(), Functor::Written::most(functor.row_size()));
}
template <typename Runner, typename Functor>
void run_elements(Runner& run, const Functor& functor, std::int64_t count) {
  if constexpr (Runner::wide) run_spans(run, functor);
  else run.launch(OverElements<Functor>{functor}, count);
}
template <typename Runner, typename Functor>
void run_pixels(Runner& run, const Functor& functor, std::int64_t rows, std::int64_t columns) {
  if constexpr (Runner::wide) run_spans(run, functor);
  else run.launch(OverPixels<Functor>{functor}, rows, columns);
}

template <typename T, typename Runner>
MakeTaps<T> taps_of(Runner& run, const ResizeAxis& axis) {
  using Weight = typename TapWeight<T>::Type;
  const auto count = static_cast<std::size_t>(axis.out_size), weights = count * static_cast<std::size_t>(axis.taps());
  return {axis, static_cast<TapRange*>(run.scratch(count * sizeof(TapRange))),
          static_cast<Weight*>(run.scratch(weights * sizeof(Weight)))};
}

// `held` are the positions of the middle axis that `from` holds.
template <typename T, typename Runner>
void resize_pass(Runner& run, const MakeTaps<T>& taps, const T* from, T* to, std::int64_t outer, std::int64_t inner,
                 TapRange held) {
  const ResizeAxis& axis = taps.axis;
  const ResizePass<T> pass{from,  to,           taps.ranges,   taps.weights, axis.taps(),
                           outer, axis.in_size, axis.out_size, inner,        held};
  constexpr int span = ResizePass<T>::span;
  if constexpr (Runner::wide) {
    if (inner == 1) run_spans(run, ResizePixels<T, 1>{pass});
    else if (inner == 3) run_spans(run, ResizePixels<T, 3>{pass});
    else run_spans(run, ResizeRows<T>{pass});
  } else if (pass.packs()) {
    run.launch(OverPass<T, span>{pass}, outer * axis.out_size, inner / span);
  } else {
    run.launch(OverPass<T, 1>{pass}, outer * axis.out_size, inner);
  }
}

template <typename T, typename Runner>
void take_nearest(Runner& run, const ResizeJob& job) {
  const auto table = [&run](const ResizeAxis& axis) {
    const auto bytes = static_cast<std::size_t>(axis.out_size) * sizeof(TapRange);
    return MakeNearest{axis, static_cast<TapRange*>(run.scratch(bytes))};
  };
  const MakeNearest columns = table(job.columns), rows = table(job.rows);
  run.launch(OverAxes<MakeNearest>{columns, rows, 1}, 2);
  const TakeNearest<T> take{static_cast<const T*>(job.from), static_cast<T*>(job.to), rows.ranges, columns.ranges,
                            job.rows.in_size, job.columns.in_size, job.rows.out_size, job.columns.out_size, job.channels};
  run_pixels(run, take, job.rows.out_size, job.columns.out_size);
}

template <typename T, typename Runner>
void resize(Runner& run, const ResizeJob& job) {
  if (job.rows.filter == Filter::nearest) return take_nearest<T>(run, job);
  const auto* from = static_cast<const T*>(job.from);
  auto* to = static_cast<T*>(job.to);
  const std::int64_t in_row = job.columns.in_size * job.channels, out_row = job.columns.out_size * job.channels;
  const bool across = job.columns.changes(), down = job.rows.changes();
  if (!across && !down) return run.copy(to, from, static_cast<std::size_t>(job.rows.in_size * in_row) * sizeof(T));
  MakeTaps<T> columns, rows;
  if (across) columns = taps_of<T>(run, job.columns);
  if (down) rows = taps_of<T>(run, job.rows);
  run.launch(OverAxes<MakeTaps<T>>{columns, rows, columns.axis.out_size}, columns.axis.out_size + rows.axis.out_size);
  const TapRange all_rows{0, static_cast<std::int32_t>(job.rows.in_size)};
  const TapRange all_columns{0, static_cast<std::int32_t>(job.columns.in_size)};
  if (!down) return resize_pass(run, columns, from, to, job.rows.in_size, job.channels, all_columns);
  if (!across) return resize_pass(run, rows, from, to, 1, in_row, all_rows);
  // Only the rows that the second pass reads.
  const TapRange begin = job.rows.range(0), end = job.rows.range(job.rows.out_size - 1);
  const TapRange held{begin.first, end.first + end.count - begin.first};
  auto* between = static_cast<T*>(run.scratch(static_cast<std::size_t>(held.count * out_row) * sizeof(T)));
  resize_pass(run, columns, from + held.first * in_row, between, held.count, job.channels, all_columns);
  resize_pass(run, rows, static_cast<const T*>(between), to, 1, out_row, held);
}

template <typename Runner>
void match_colours(Runner& run, const ColourJob& job) {
  const auto parts = [](std::int64_t extent, std::int64_t by) { return (extent + by - 1) / by; };
  std::vector<ColourLevel> levels;
  const auto add_level = [&](std::int64_t height, std::int64_t width) {
    const auto bytes = static_cast<std::size_t>(height * width) * sizeof(ColourCell);
    levels.push_back({static_cast<ColourCell*>(run.scratch(bytes)), height, width});
  };
  add_level(parts(job.height, colour_cell), parts(job.width, colour_cell));
  while (levels.back().height > 1 || levels.back().width > 1) {
    add_level(parts(levels.back().height, 2), parts(levels.back().width, 2));
  }
  const auto level = [&](std::size_t i) { return i < levels.size() ? levels[i] : ColourLevel{}; };
  const ColourLevel& finest = levels.front();
  const ColourCells cells{job.colours, job.original, job.hole, job.height, job.width, finest};
  run.launch(OverPixels<ColourCells>{cells}, finest.height, finest.width);
  for (std::size_t i = 0; i + 1 < levels.size(); i += 2) {
    const ColourCoarser coarser{levels[i], levels[i + 1], level(i + 2)};
    run.launch(OverPixels<ColourCoarser>{coarser}, parts(coarser.to.height, 2), parts(coarser.to.width, 2));
  }
  for (std::size_t i = (levels.size() + 1) / 2 * 2; i > 0;) {
    i -= 2;
    const ColourPull pull{levels[i], level(i + 1), level(i + 2)};
    run.launch(OverPixels<ColourPull>{pull}, pull.level.height, pull.level.width);
  }
  run_spans(run, ColourAdd{job.colours, job.out, job.height, job.width, finest, levels.back().cells});
}

template <typename T, int width>
struct OverNormalise {
  NormaliseTo<T> functor;
  HOIRT_HD void at(std::int64_t picture, std::int64_t i) const { functor.template operator()<width>(picture, i); }
};
template <typename T, int width>
struct OverPlanes {
  NormaliseTo<T> functor;
  HOIRT_HD void at(std::int64_t picture, std::int64_t i) const { functor.template write_planes<width>(picture, i); }
};
template <typename T, int width>
struct OverColours {
  ColoursFrom<T> functor;
  HOIRT_HD void at(std::int64_t picture, std::int64_t i) const { functor.template operator()<width>(picture, i); }
};

template <typename T, typename Runner>
void normalise(Runner& run, const NormaliseJob& job) {
  const NormaliseTo<T> functor{job.pixels, job.holes, static_cast<T*>(job.planes), job.count, job.area, job.channels,
                               job.out_channels, job.divisor, job.offset};
  constexpr int span = NormaliseTo<T>::span;
  const bool packs = functor.packs();
  if (packs && functor.in_colour()) run.launch(OverPlanes<T, span>{functor}, job.count, job.area / span);
  else if constexpr (Runner::wide) run_spans(run, functor);
  else if (packs) run.launch(OverNormalise<T, span>{functor}, job.count, job.area / span);
  else run.launch(OverNormalise<T, 1>{functor}, job.count, job.area);
}

template <typename T, typename Runner>
void colours(Runner& run, const ColoursJob& job) {
  const ColoursFrom<T> functor{static_cast<const T*>(job.planes), job.colours, job.count, job.area, job.scale, job.shift,
                               job.flag};
  constexpr int span = ColoursFrom<T>::span;
  if (functor.packs()) run.launch(OverColours<T, span>{functor}, job.count, job.area / span);
  else if constexpr (Runner::wide) run_spans(run, functor);
  else run.launch(OverColours<T, 1>{functor}, job.count, job.area);
}

// Calls `function` with a T of the dtype, which networks may have.
template <typename Function>
void with_type(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::f32:
      return function(float{});
    case DType::f16:
      return function(Half{});
    case DType::bf16:
      return function(BFloat{});
    default:
      throw InputError("it must hold float32, float16 or bfloat16, not " + to_string(dtype));
  }
}

template <typename Runner>
void run_paste(Runner& run, const Paste& job) {
  run_pixels(run, job, job.patch_height, job.patch_width);
}
template <typename Runner>
void run_pad_edge(Runner& run, const PadEdge& job) {
  run_pixels(run, job, job.out_height, job.out_width);
}
template <typename Runner>
void run_sample_posterior(Runner& run, const SamplePosterior& job) {
  run_elements(run, job, job.size);
}
template <typename Runner>
void run_resize(Runner& run, const ResizeJob& job) {
  if (job.dtype == DType::u8) resize<std::uint8_t>(run, job);
  else resize<float>(run, job);
}
template <typename Runner>
void run_normalise(Runner& run, const NormaliseJob& job) {
  with_type(job.dtype, [&](auto zero) { normalise<decltype(zero)>(run, job); });
}
template <typename Runner>
void run_colours(Runner& run, const ColoursJob& job) {
  with_type(job.dtype, [&](auto zero) { colours<decltype(zero)>(run, job); });
}

}  // namespace hoirt::kernels
