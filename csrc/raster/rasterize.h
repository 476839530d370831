// Triangle rasteriser: metric depth, face ids and perspective-correct barycentrics of one mesh and one pinhole camera.
#pragma once

#include <cstdint>
#include <span>

#include "engine/tensor.h"

namespace hoirt::raster {

// OpenCV axes: x right, y down, z away. Pixel (column j, row i) is sampled at (j + 0.5, i + 0.5).
struct Camera {
  double fx = 1.0, fy = 1.0, cx = 0.0, cy = 0.0;
  std::int64_t height = 0, width = 0;
  double near = 1e-3;  // metres; geometry nearer than this is clipped
};

struct Raster {
  Tensor depth;         // float32 (H, W), metres along z; 0 where nothing is hit
  Tensor faces;         // int32 (H, W), face index; -1 where nothing is hit
  Tensor barycentrics;  // float32 (H, W, 3), weights of the face's three vertices
};

// vertices: float32 (V, 3), metres in camera space; triangles: int32 (F, 3).
// Edges follow the top-left rule, so triangles that share an edge cover every pixel exactly once.
// Throws InputError on wrong shapes, indices out of range or non-finite vertices.
Raster rasterize(const Tensor& vertices, const Tensor& triangles, const Camera& camera, bool cull_back_faces);

}  // namespace hoirt::raster
