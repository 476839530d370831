// From raster buffers to pictures: one functor per encoder, called once per pixel; host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::raster {

// Smallest and largest depth of what is seen; `farthest` is 0 where nothing is.
struct DepthRange {
  float nearest = INFINITY;
  float farthest = 0.0f;

  HOIRT_HD void add(float depth) {
    nearest = depth < nearest ? depth : nearest;
    farthest = depth > farthest ? depth : farthest;
  }
  HOIRT_HD void add(const DepthRange& other) {
    nearest = other.nearest < nearest ? other.nearest : nearest;
    farthest = other.farthest > farthest ? other.farthest : farthest;
  }
};

// Depth is 0 (nothing) or positive and finite.
HOIRT_HD inline bool valid_depth(float depth) { return depth >= 0.0f && depth < INFINITY; }

// HandRefiner's depth: per hand (1 - span (z - nearest) / (farthest - nearest)) 255, background 0.
struct HandDepth {
  const float* depth = nullptr;             // (frames, pixels) with `instances`, else (frames, hands, pixels)
  const std::int32_t* instances = nullptr;  // (frames, pixels): the hand of each pixel; or null
  const DepthRange* ranges = nullptr;       // (frames, hands)
  std::uint8_t* out = nullptr;              // (frames, pixels)
  std::int64_t hands = 0, pixels = 0;
  double span = 0.8;
  bool nearest_integer = false;  // else towards zero, as the reference's cast

  HOIRT_HD void operator()(std::int64_t frame, std::int64_t pixel) const {
    const std::int64_t at = frame * pixels + pixel;
    if (instances) {
      const std::int32_t hand = instances[at];
      out[at] = hand >= 0 && depth[at] > 0.0f ? value(depth[at], ranges[frame * hands + hand]) : std::uint8_t{0};
      return;
    }
    std::uint8_t found = 0;
    for (std::int64_t hand = hands - 1; hand >= 0 && found == 0; --hand) {
      const float z = depth[(frame * hands + hand) * pixels + pixel];
      // A later hand covers an earlier one wherever its value is not zero, whichever is nearer at the pixel.
      if (z > 0.0f) found = value(z, ranges[frame * hands + hand]);
    }
    out[at] = found;
  }

  HOIRT_HD std::uint8_t value(float z, const DepthRange& range) const {
    const double length = static_cast<double>(range.farthest) - static_cast<double>(range.nearest);
    if (!(length > 0.0)) return 255;  // a flat hand: the reference divides by zero
    const double level = (1.0 - span * (static_cast<double>(z) - static_cast<double>(range.nearest)) / length) * 255.0;
    return static_cast<std::uint8_t>(nearest_integer ? std::rint(level) : level);
  }
};

// PAM's depth: normalised disparity (or depth) of the whole clip through a table of 256 colours, background black.
struct ColouredDepth {
  const float* depth = nullptr;           // (pixels,)
  const std::uint8_t* colours = nullptr;  // (256, 3)
  const DepthRange* range = nullptr;      // of the clip
  std::uint8_t* out = nullptr;            // (pixels, 3)
  double low = 0.0, high = 1.0;           // where in the table the farthest and the nearest pixel lie
  bool disparity = true;                  // 1 / z is normalised, else -z

  HOIRT_HD double position(float z) const {
    return disparity ? 1.0 / static_cast<double>(z) : -static_cast<double>(z);
  }

  HOIRT_HD int index(float z) const {
    const double far = position(range->farthest), near = position(range->nearest);
    const double t = near > far ? (position(z) - far) / (near - far) : 1.0;
    const auto level = static_cast<int>((low * (1.0 - t) + high * t) * 255.0);
    return level < 0 ? 0 : level > 255 ? 255 : level;
  }

  HOIRT_HD void operator()(std::int64_t pixel) const {
    const float z = depth[pixel];
    const std::uint8_t* colour = z > 0.0f ? colours + 3 * index(z) : nullptr;
    for (int k = 0; k < 3; ++k) out[3 * pixel + k] = colour ? colour[k] : std::uint8_t{0};
  }
};

// Instance ids as colours.
struct ColouredInstances {
  const std::int32_t* instances = nullptr;  // (pixels,), -1 .. colours - 2
  const std::uint8_t* colours = nullptr;    // (1 + ids, 3); row 0 is the background
  std::uint8_t* out = nullptr;              // (pixels, 3)

  HOIRT_HD void operator()(std::int64_t pixel) const {
    const std::uint8_t* colour = colours + 3 * (std::int64_t{instances[pixel]} + 1);
    for (int k = 0; k < 3; ++k) out[3 * pixel + k] = colour[k];
  }
};

// Unit normals as colours: 255 (n + 1) / 2, rounded; the zero vector is black.
struct ColouredNormals {
  const float* normals = nullptr;  // (pixels, 3)
  std::uint8_t* out = nullptr;     // (pixels, 3)
  bool flip = false;               // y and z turned round: OpenGL's axes

  HOIRT_HD void operator()(std::int64_t pixel) const {
    const float* n = normals + 3 * pixel;
    const bool empty = n[0] == 0.0f && n[1] == 0.0f && n[2] == 0.0f;
    for (int k = 0; k < 3; ++k) {
      const float signed_value = flip && k > 0 ? -n[k] : n[k];
      const float level = std::rint((signed_value + 1.0f) * 127.5f);
      const float kept = level < 0.0f ? 0.0f : level > 255.0f ? 255.0f : level;
      out[3 * pixel + k] = empty ? std::uint8_t{0} : static_cast<std::uint8_t>(kept);
    }
  }
};

}  // namespace hoirt::raster
