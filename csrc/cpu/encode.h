// The encoders of csrc/raster on the CPU, with their checks: raster buffers in, 8-bit pictures out.
//
// `threads` 0 is all cores; the bits are the same for any number. Each throws InputError on wrong shapes or values.
#pragma once

#include <cstdint>

#include "csrc/raster/draw_hand.h"
#include "csrc/raster/encode.h"
#include "engine/tensor.h"

namespace hoirt::cpu {

// depth float32 (N, H, W) and instances int32 (N, H, W), one z-buffer; or depth (N, M, H, W), hands from far to near,
// and no instances. Gives uint8 (N, H, W) from 255 to `farthest`.
Tensor encode_hand_depth(const Tensor& depth, const Tensor* instances, int farthest, bool nearest_integer, int threads);

// depth float32 (N, H, W), colours uint8 (256, 3). Gives uint8 (N, H, W, 3).
Tensor encode_coloured_depth(const Tensor& depth, const Tensor& colours, double low, double high, bool disparity,
                             int threads);

// instances int32 (N, H, W), colours uint8 (1 + ids, 3) with the background first. Gives uint8 (N, H, W, 3).
Tensor encode_instances(const Tensor& instances, const Tensor& colours, int threads);

// normals float32 (N, H, W, 3), values within -1..1. Gives uint8 (N, H, W, 3).
Tensor encode_normals(const Tensor& normals, bool flip, int threads);

// Draws hands on `pictures` uint8 (N, H, W, 3), in place. joints float64 (N, 21, 2); depth float64 (N, 21) or null.
void draw_hands(Tensor& pictures, const Tensor& joints, const Tensor* depth, const raster::HandStyle& style,
                int threads);

}  // namespace hoirt::cpu
