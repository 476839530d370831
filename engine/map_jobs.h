// What a device is asked to do for the maps of a region: meshes as a depth map, distances, masks.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "csrc/kernels/distance.h"
#include "csrc/kernels/maps.h"
#include "csrc/raster/camera.h"
#include "engine/tensor.h"

namespace hoirt {

// The distance of every pixel, and what is made of it.
struct DistanceJob {
  kernels::NearestPixel nearest;
  std::variant<kernels::AsDistance, kernels::AsGrown, kernels::AsOpacity> as;
  void* out = nullptr;  // (height, width) of the As::T

  // Calls `function` with what is made of it, and `out`.
  template <typename Function>
  void visit(const Function& function) const {
    std::visit([&](const auto& how) { function(how, static_cast<typename std::decay_t<decltype(how)>::T*>(out)); }, as);
  }
};

using MapJob = std::variant<DistanceJob, kernels::LookUp, kernels::Touched, kernels::Lay, kernels::Cut>;

// Hands from far to near, each drawn by itself, back faces culled, as hand_depth's bytes: 255 nearest to 51 farthest of
// its own pixels.
struct DrawJob {
  struct Mesh {
    Tensor vertices;  // float32 or float64 (V, 3), where the device works
    Tensor faces;     // int32 (F, 3), there too
    raster::Camera camera;
  };
  std::vector<Mesh> meshes;
  raster::View view{};
  std::uint8_t* out = nullptr;  // (height, width)

  static constexpr int farthest = 51;
};

}  // namespace hoirt
