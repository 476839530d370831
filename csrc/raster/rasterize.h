// Triangle rasteriser: depth, ids, barycentrics, normals and silhouette of batched meshes under pinhole cameras.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/raster/camera.h"
#include "engine/tensor.h"

namespace hoirt::raster {

// Which arrays are wanted; only those are allocated.
struct Wanted {
  bool depth = false, instances = false, faces = false, barycentrics = false, normals = false, silhouette = false;
};

// N frames of one mesh. Where the first extent is 1, it serves all frames.
struct Scene {
  Tensor vertices;              // float32 or float64 (N or 1, V, 3), metres in the world
  Tensor faces;                 // int32 (F, 3)
  Tensor instances;             // int32 (F,), >= 0; empty: all 0
  std::vector<Camera> cameras;  // N or 1
  View view;
};

// Empty tensors where not wanted. Pixels without a face: depth 0, ids -1, weights and normals 0, silhouette false.
struct Raster {
  Tensor depth;         // float32 (N, H, W), metres along z
  Tensor instances;     // int32 (N, H, W)
  Tensor faces;         // int32 (N, H, W)
  Tensor barycentrics;  // float32 (N, H, W, 3), weights of the face's three vertices
  Tensor normals;       // float32 (N, H, W, 3), unit, in camera space, turned towards the camera
  Tensor silhouette;    // bool (N, H, W)
};

// Every pixel centre inside a triangle's projection belongs to it; centres on an edge follow the top-left rule, so
// that triangles that share an edge cover every pixel exactly once. The result has the same bits for any number of
// threads; 0 means one per processor. Throws InputError for wrong shapes, indices out of range, vertices that are not
// finite or are beyond 1e30 m.
Raster rasterize(const Scene& scene, const Wanted& wanted, int threads);

// What a scene must be, for every launcher. Each throws InputError; the last returns the number of frames.
void check_vertices(const Shape& shape, DType dtype);
void check_positions(const Tensor& vertices);  // on the host
void check_faces(const Tensor& faces, std::int64_t vertex_count);
void check_instances(const Tensor& instances, std::int64_t face_count);
std::int64_t check_views(std::int64_t meshes, const std::vector<Camera>& cameras, const View& view);

}  // namespace hoirt::raster
