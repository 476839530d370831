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
struct OverNothing {
  MakeNearest functor;
  HOIRT_HD void at(std::int64_t) const { functor(); }
};
template <typename Functor>
struct OverSpans {
  Functor functor;
  HOIRT_HD void at(std::int64_t row, std::int64_t i) const { functor.write(row, i); }
};
struct OverCells {
  ColourCells functor;
  HOIRT_HD void at(std::int64_t row, std::int64_t column) const { functor.template operator()<true>(row, column); }
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

// `held` are the positions of the middle axis that `from` holds.
template <typename T, typename Runner>
void resize_pass(Runner& run, const ResizeAxis& axis, const T* from, T* to, std::int64_t outer, std::int64_t inner,
                 TapRange held) {
  using Weight = typename TapWeight<T>::Type;
  auto* ranges = static_cast<TapRange*>(run.scratch(static_cast<std::size_t>(axis.out_size) * sizeof(TapRange)));
  auto* weights =
      static_cast<Weight*>(run.scratch(static_cast<std::size_t>(axis.out_size * axis.taps()) * sizeof(Weight)));
  run.launch(OverElements<MakeTaps<T>>{{axis, ranges, weights}}, axis.out_size);
  const ResizePass<T> pass{from, to, ranges, weights, axis.taps(), outer, axis.in_size, axis.out_size, inner, held};
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
void resize(Runner& run, const ResizeJob& job) {
  const auto* from = static_cast<const T*>(job.from);
  auto* to = static_cast<T*>(job.to);
  const std::int64_t in_row = job.columns.in_size * job.channels, out_row = job.columns.out_size * job.channels;
  if (job.rows.filter == Filter::nearest) {
    const auto table = [&run](const ResizeAxis& axis) {
      auto* ranges = static_cast<TapRange*>(run.scratch(static_cast<std::size_t>(axis.out_size) * sizeof(TapRange)));
      run.launch(OverNothing{{axis, ranges}}, 1);
      return ranges;
    };
    const TakeNearest<T> take{from, to, table(job.rows), table(job.columns), job.rows.in_size, job.columns.in_size,
                              job.rows.out_size, job.columns.out_size, job.channels};
    run_pixels(run, take, job.rows.out_size, job.columns.out_size);
    return;
  }
  const TapRange all_rows{0, static_cast<std::int32_t>(job.rows.in_size)};
  const TapRange all_columns{0, static_cast<std::int32_t>(job.columns.in_size)};
  const bool across = job.columns.changes(), down = job.rows.changes();
  if (!across && !down) {
    run.copy(to, from, static_cast<std::size_t>(job.rows.in_size * in_row) * sizeof(T));
  } else if (!down) {
    resize_pass(run, job.columns, from, to, job.rows.in_size, job.channels, all_columns);
  } else if (!across) {
    resize_pass(run, job.rows, from, to, 1, in_row, all_rows);
  } else {
    // Only the rows that the second pass reads.
    const TapRange begin = job.rows.range(0), end = job.rows.range(job.rows.out_size - 1);
    const TapRange held{begin.first, end.first + end.count - begin.first};
    auto* between = static_cast<T*>(run.scratch(static_cast<std::size_t>(held.count * out_row) * sizeof(T)));
    resize_pass(run, job.columns, from + held.first * in_row, between, held.count, job.channels, all_columns);
    resize_pass(run, job.rows, static_cast<const T*>(between), to, 1, out_row, held);
  }
}

inline ResizeJob stretch(const float* from, float* to, std::int64_t in_height, std::int64_t in_width, std::int64_t height,
                         std::int64_t width) {
  return {from, to, DType::f32, 3, {in_height, height, 0, static_cast<float>(in_height), Filter::bilinear},
          {in_width, width, 0, static_cast<float>(in_width), Filter::bilinear}};
}

template <typename Runner>
void match_colours(Runner& run, const ColourJob& job) {
  const auto floats = [&run](std::int64_t count) {
    return static_cast<float*>(run.scratch(static_cast<std::size_t>(count) * sizeof(float)));
  };
  const auto level_of = [&floats](std::int64_t height, std::int64_t width) {
    return ColourLevel{floats(3 * height * width), floats(height * width), height, width};
  };
  const auto parts = [](std::int64_t extent, std::int64_t by) { return (extent + by - 1) / by; };
  std::vector<ColourLevel> levels{level_of(parts(job.height, colour_cell), parts(job.width, colour_cell))};
  const ColourCells cells{job.colours, job.original, job.hole, job.height, job.width, levels.front()};
  if constexpr (Runner::wide) run.launch(OverCells{cells}, levels.front().height, levels.front().width);
  else run.launch(OverPixels<ColourCells>{cells}, levels.front().height, levels.front().width);
  while (levels.back().height > 1 || levels.back().width > 1) {
    const ColourLevel from = levels.back(), to = level_of(parts(from.height, 2), parts(from.width, 2));
    run.launch(OverPixels<ColourCoarser>{{from, to}}, to.height, to.width);
    levels.push_back(to);
  }
  const float* known = levels.back().weight;
  const float* below = nullptr;
  for (std::size_t i = levels.size(); i-- > 0;) {
    const ColourLevel& level = levels[i];
    if (i + 1 < levels.size()) {
      const ColourLevel& coarser = levels[i + 1];
      float* stretched = floats(3 * level.height * level.width);
      resize<float>(run, stretch(coarser.shift, stretched, coarser.height, coarser.width, level.height, level.width));
      below = stretched;
    }
    run_elements(run, ColourPull{level, below}, level.height * level.width);
  }
  float* shift = floats(3 * job.height * job.width);
  const ColourLevel& finest = levels.front();
  resize<float>(run, stretch(finest.shift, shift, finest.height, finest.width, job.height, job.width));
  const std::int64_t size = 3 * job.height * job.width;
  run_elements(run, ColourAdd{job.colours, shift, known, job.out, size}, size);
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
