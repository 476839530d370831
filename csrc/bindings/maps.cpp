// The maps of a region for Python: NumPy arrays on the CPU, DLPack arrays where they lie.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "csrc/bindings/here.h"
#include "csrc/bindings/module.h"
#include "csrc/bindings/raster_arguments.h"
#include "csrc/raster/rasterize.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

Tensor mask_from(const Here& here, const ArrayLike& mask, std::size_t rank) {
  const Tensor given = here.take(mask, "mask");
  require(is_mask(given) && fits(given.shape(), rank), std::string("mask must be bool or uint8 of shape ") +
                                                           (rank == 2 ? "(H, W)" : "(N, H, W)") + ", not " + kind_of(given));
  return given;
}

// A map that is changed in place.
Tensor map_from(const Here& here, DeviceTensor& map) {
  const Tensor below = here.take(py::cast(map, py::return_value_policy::reference), "map");
  require(below.dtype() == DType::u8 && fits(below.shape(), 2), "map must be uint8 (H, W), not " + kind_of(below));
  return below;
}

// The same, and where a part of that size goes.
Tensor map_from(const Here& here, DeviceTensor& map, const Tensor& part, std::int64_t top, std::int64_t left) {
  const Tensor below = map_from(here, map);
  require(top >= 0 && left >= 0 && top <= below.dim(0) - part.dim(0) && left <= below.dim(1) - part.dim(1),
          "the part must lie in the map " + to_string(below.shape()) + " at row `top`, column `left`");
  return below;
}

const std::uint8_t* bytes_of(const Tensor& tensor) { return static_cast<const std::uint8_t*>(tensor.raw()); }

// How far is measured at most: beyond the picture's own extents nothing more is found.
std::int32_t reach(const Tensor& mask, std::uint64_t radius) {
  const auto longest = static_cast<std::uint64_t>(std::max(mask.dim(0), mask.dim(1)));
  return static_cast<std::int32_t>(std::min(radius, longest));
}

template <typename As>
py::object measured(const Here& here, const Tensor& mask, kernels::NearestPixel nearest, const As& as, DType dtype) {
  require(std::max(mask.dim(0), mask.dim(1)) <= kernels::most_distance_extent,
          "mask must not be longer than 16384 pixels a side, not " + to_string(mask.shape()));
  nearest.mask = bytes_of(mask), nearest.height = mask.dim(0), nearest.width = mask.dim(1);
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make(mask.shape(), dtype);
    here.device->stream().map(DistanceJob{nearest, as, out.raw()});
  }
  return here.give(out);
}

py::object distance(const ArrayLike& mask, const Integer& radius) {
  const Here here(mask, "mask");
  const Tensor given = mask_from(here, mask, 2);
  const std::uint64_t most = unsigned_from(radius, "radius", INT32_MAX);
  return measured(here, given, {.radius = reach(given, most)}, kernels::AsDistance{2.0F * static_cast<float>(most + 1)},
                  DType::f32);
}

py::object grow(const ArrayLike& mask, const Integer& radius) {
  const Here here(mask, "mask");
  const Tensor given = mask_from(here, mask, 2);
  const std::uint64_t most = unsigned_from(radius, "radius", INT32_MAX);
  // The largest whose square is still less than `out_of_reach`; no two pixels are farther apart.
  const auto side = static_cast<std::int32_t>(std::min<std::uint64_t>(most, 2 * kernels::most_distance_extent - 1));
  return measured(here, given, {.radius = reach(given, most)}, kernels::AsGrown{side * side}, DType::boolean);
}

py::object soften(const ArrayLike& mask, double width, bool fade_at_border) {
  const Here here(mask, "mask");
  const Tensor given = mask_from(here, mask, 2);
  require(width >= 0 && width <= most_extent, "width must lie in 0..2^20 pixels, not " + std::to_string(width));
  if (width < 1) width = 0;
  const kernels::NearestPixel outside{.radius = reach(given, static_cast<std::uint64_t>(std::ceil(width))),
                                      .set = false, .border = fade_at_border};
  return measured(here, given, outside, kernels::AsOpacity{static_cast<float>(width + 1)}, DType::f32);
}

py::object touched(const ArrayLike& mask, std::int64_t factor) {
  const Here here(mask, "mask");
  const Tensor given = mask_from(here, mask, 3);
  require(factor >= 1 && given.dim(1) % factor == 0 && given.dim(2) % factor == 0,
          "factor must divide the mask's height and width " + to_string(given.shape()) + ", not " + std::to_string(factor));
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make({given.dim(0), 1, given.dim(1) / factor, given.dim(2) / factor}, DType::f32);
    here.device->stream().map(kernels::Touched{bytes_of(given), out.data<float>(), given.dim(0), given.dim(1), given.dim(2), factor});
  }
  return here.give(out);
}

bool any_set(const ArrayLike& mask) {
  const Here here(mask, "mask");
  const Tensor given = mask_from(here, mask, 2);
  const py::gil_scoped_release release;
  Tensor floats = here.make(given.shape(), DType::f32);
  here.device->stream().map(kernels::Touched{bytes_of(given), floats.data<float>(), 1, given.dim(0), given.dim(1), 1});
  return !here.device->stream().all_within(floats, 0.0F, 0.0F);
}

using Rectangle = std::array<std::int64_t, 4>;

kernels::CellAxis axis_of(std::int64_t count, std::int64_t cells, const Rectangle& window, const Rectangle& crop, std::size_t side) {
  const auto at = [side](const Rectangle& r, std::size_t corner) { return static_cast<double>(r[side + corner]); };
  return {count, cells, at(window, 0), at(window, 2), at(crop, 0), at(crop, 2)};
}

void look_up_into(DeviceTensor& map, const ArrayLike& region, const Rectangle& crop, const Rectangle& window) {
  const Here here(py::cast(map, py::return_value_policy::reference), "map");
  const Tensor cells = here.take(region, "region");
  require(cells.dtype() == DType::f32 && fits(cells.shape(), 2), "region must be float32 (h, w), not " + kind_of(cells));
  require(window[2] > 0 && window[3] > 0 && crop[2] > 0 && crop[3] > 0, "crop and window must not be empty");
  Tensor below = map_from(here, map);
  {
    const py::gil_scoped_release release;
    here.device->stream().map(kernels::LookUp{cells.data<float>(), below.data<std::uint8_t>(),
                                              axis_of(below.dim(0), cells.dim(0), window, crop, 1),
                                              axis_of(below.dim(1), cells.dim(1), window, crop, 0)});
  }
  map.ready = here.device->stream().record();
}

void lay_into(DeviceTensor& map, const ArrayLike& part, std::int64_t top, std::int64_t left) {
  const Here here(py::cast(map, py::return_value_policy::reference), "map");
  const Tensor above = here.take(part, "part");
  require(above.dtype() == DType::u8 && fits(above.shape(), 2), "part must be uint8 (h, w), not " + kind_of(above));
  Tensor below = map_from(here, map, above, top, left);
  {
    const py::gil_scoped_release release;
    here.device->stream().map(kernels::Lay{above.data<std::uint8_t>(), below.data<std::uint8_t>(), above.dim(0),
                                           above.dim(1), below.dim(1), top, left});
  }
  map.ready = here.device->stream().record();
}

py::object cut_into(DeviceTensor& map, const ArrayLike& inside, const ArrayLike& opacity, std::int64_t top,
                    std::int64_t left) {
  const Here here(py::cast(map, py::return_value_policy::reference), "map");
  const Tensor in = here.take(inside, "inside"), full = here.take(opacity, "opacity");
  require(in.dtype() == DType::f32 && fits(in.shape(), 2), "inside must be float32 (h, w), not " + kind_of(in));
  require(full.dtype() == DType::f32 && full.shape() == in.shape(), "opacity must be float32 like inside, not " + kind_of(full));
  Tensor below = map_from(here, map, in, top, left), out;
  {
    const py::gil_scoped_release release;
    out = here.make(in.shape(), DType::f32);
    here.device->stream().map(kernels::Cut{in.data<float>(), full.data<float>(), out.data<float>(), below.data<std::uint8_t>(),
                                           in.dim(0), in.dim(1), below.dim(1), top, left});
  }
  map.ready = here.device->stream().record();
  return here.give(out);
}

py::object draw_depth(const std::vector<std::pair<ArrayLike, ArrayLike>>& meshes, const ArrayLike& intrinsics,
                      const IntegerSequence& size, std::optional<std::shared_ptr<Device>> device) {
  const Here here(device.value_or(nullptr) ? *device : device_of({}));
  require(!meshes.empty(), "meshes must name at least one (vertices, faces)");
  const std::vector<raster::Camera> cameras = cameras_from(intrinsics, py::none());
  require(cameras.size() == meshes.size(), "intrinsics must have a row for each of the " + std::to_string(meshes.size()) + " meshes");
  DrawJob job;
  job.view = view_from(size, 1e-3, true);
  for (std::size_t i = 0; i < meshes.size(); ++i) {
    // Checked on the host, since nothing can be reported from a device.
    const Tensor vertices = tensor_from(meshes[i].first, "vertices"), faces = indices_from(meshes[i].second, "faces");
    require(vertices.rank() == 2, "vertices must have shape (V, 3), not " + to_string(vertices.shape()));
    raster::check_vertices({1, vertices.dim(0), vertices.dim(1)}, vertices.dtype());
    raster::check_positions(vertices);
    raster::check_faces(faces, vertices.dim(0));
    raster::check_views(1, {cameras[i]}, job.view);
    job.meshes.push_back({here.move(vertices), here.move(faces), cameras[i]});
  }
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make({job.view.height, job.view.width}, DType::u8);
    job.out = out.data<std::uint8_t>();
    here.device->stream().draw(job);
  }
  return here.give(out);
}

}  // namespace

void register_maps(py::module_& module) {
  module.def("distance", &distance, py::arg("mask"), py::arg("radius"),
             "Distance in pixels, float32 (H, W), from every pixel of `mask` (H, W), bool or uint8 with sides up to 16384, to\n"
             "the nearest one that is set: exact up to `radius`, more beyond, at most 2 (radius + 1). An array on a device\n"
             "gives a DeviceTensor, here and below. Raises InputError.");
  module.def("grow", &grow, py::arg("mask"), py::arg("radius"),
             "`mask` (H, W), bool or uint8, dilated by a disc of `radius` pixels, bool.");
  module.def("soften", &soften, py::arg("mask"), py::arg("width"), py::kw_only(), py::arg("fade_at_border"),
             "Opacity float32 (H, W) of `mask`: 0 outside, rising smoothly over `width` pixels inside; with a width below 1 it\n"
             "is 0 or 1. `fade_at_border`: what lies beyond the array is outside.");
  module.def("touched", &touched, py::arg("mask"), py::arg("factor"),
             "float32 (N, 1, H / factor, W / factor): 1 where any pixel of a cell of `mask` (N, H, W) is set.");
  module.def("any_set", &any_set, py::arg("mask"), "Whether any pixel of `mask` (H, W) is set; waits for a device.");
  module.def("look_up_into", &look_up_into, py::arg("map"), py::arg("region"), py::arg("crop"), py::arg("window"),
             "Sets the pixels of `map`, a DeviceTensor uint8 (H, W) over `window`, that see more than 0.5 in `region` float32\n"
             "(h, w) over `crop`; both are left, top, width, height in pixels of a picture.");
  module.def("lay_into", &lay_into, py::arg("map"), py::arg("part"), py::arg("top"), py::arg("left"),
             "Lays what is not 0 of `part` uint8 (h, w) over `map`, a DeviceTensor uint8 (H, W).");
  module.def("cut_into", &cut_into, py::arg("map"), py::arg("inside"), py::arg("opacity"), py::arg("top"), py::arg("left"),
             "`opacity` float32 (h, w) where `inside` (h, w) is more than 0.5, else 0; there `map`, a DeviceTensor uint8\n"
             "(H, W), becomes 1.");
  module.def("draw_depth", &draw_depth, py::arg("meshes"), py::kw_only(), py::arg("intrinsics"), py::arg("size"),
             py::arg("device") = py::none(),
             "Depth uint8 (H, W) of hands from far to near, [(vertices (V, 3), faces (F, 3)), ...] on the CPU, under cameras\n"
             "`intrinsics` (N, 4): each is drawn by rasterize() without its back faces, and all become hand_depth()'s, rounded.\n"
             "With a `device` it is done there. Raises InputError for what rasterize() refuses.");
}

}  // namespace hoirt::bindings
