// The arguments of a resize from Python.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "engine/error.h"
#include "engine/picture_jobs.h"

namespace hoirt::bindings {

using Box = std::array<float, 4>;

inline kernels::Filter filter_from(const std::string& name) {
  if (name == "nearest") return kernels::Filter::nearest;
  if (name == "bilinear") return kernels::Filter::bilinear;
  if (name == "bicubic") return kernels::Filter::bicubic;
  throw InputError("filter must be 'nearest', 'bilinear' or 'bicubic', not '" + name + "'");
}

// (height, width) to (height, width); `box` (x0, y0, x1, y1) of the former, or all of it. Without addresses.
inline ResizeJob resize_job(std::pair<std::int64_t, std::int64_t> from, std::pair<std::int64_t, std::int64_t> to,
                            const std::optional<Box>& box, const std::string& filter) {
  const Box part = box.value_or(Box{0, 0, static_cast<float>(from.second), static_cast<float>(from.first)});
  const kernels::Filter kind = filter_from(filter);
  const auto axis = [kind](std::int64_t in_size, std::int64_t out_size, float low, float high) -> kernels::ResizeAxis {
    if (!(low >= 0.0F && low < high && high <= static_cast<float>(in_size))) {
      throw InputError("box must lie inside of the array and not be empty, (x0, y0, x1, y1)");
    }
    return {in_size, out_size, low, high, kind};
  };
  ResizeJob job;
  job.rows = axis(from.first, to.first, part[1], part[3]);
  job.columns = axis(from.second, to.second, part[0], part[2]);
  return job;
}

}  // namespace hoirt::bindings
