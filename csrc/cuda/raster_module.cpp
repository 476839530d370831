// _core_cuda.rasterize: the arguments of _core.rasterize with arrays on a CUDA device.
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/raster_arguments.h"
#include "csrc/cuda/device_array.h"
#include "csrc/cuda/raster.h"
#include "csrc/cuda/raster_module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

// An argument that may be on the device, or on the CPU, where it is checked and from where it is copied.
template <typename CheckHost>
DeviceArray indices_on_device(const py::object& object, const std::string& name, int device, void* stream,
                              const CheckHost& check) {
  if (cuda_device_of(object) >= 0) {
    DeviceArray out = device_array_from(object, name, stream);
    if (out.device != device) throw InputError(name + " must be on the device of the vertices");
    return out;
  }
  const Tensor host = indices_from(object, name);
  check(host);
  const std::shared_ptr<void> memory = cuda::allocate(host.bytes(), stream, stream);
  cuda::upload(memory.get(), host.raw(), host.bytes(), stream);
  return {memory.get(), host.shape(), host.dtype(), device, memory, nullptr};
}

py::typing::Dict<py::str, DeviceArray> rasterize(const ArrayLike& vertices, const ArrayLike& faces,
                                                 const ArrayLike& intrinsics, const IntegerSequence& size,
                                                 const OptionalArray& extrinsics, const OptionalArray& instances,
                                                 double near, bool cull_back_faces,
                                                 const std::vector<std::string>& outputs, const Integer& threads,
                                                 std::uintptr_t stream_address) {
  static_cast<void>(unsigned_from(threads, "threads", 1024));
  const int device = cuda_device_of(vertices);
  if (device < 0) throw InputError("vertices must be on a CUDA device; hoirt._core.rasterize takes those on the CPU");
  const cuda::DeviceScope scope(device);
  void* stream = reinterpret_cast<void*>(stream_address);
  DeviceArray points = device_array_from(vertices, "vertices", stream);
  if (points.shape.size() == 2) points.shape.insert(points.shape.begin(), 1);
  raster::check_vertices(points.shape, points.dtype);

  cuda::RasterJob job;
  job.meshes = points.shape[0];
  job.vertex_count = points.shape[1];
  job.cameras = cameras_from(intrinsics, extrinsics);
  job.view = view_from(size, near, cull_back_faces);
  job.frames = raster::check_views(job.meshes, job.cameras, job.view);
  const raster::Wanted wanted = wanted_from(outputs);
  const DeviceArray corners = indices_on_device(
      faces, "faces", device, stream, [&](const Tensor& host) { raster::check_faces(host, job.vertex_count); });
  if (corners.shape.size() != 2 || corners.shape[1] != 3) {
    throw InputError("faces must have shape (F, 3), not " + to_string(corners.shape));
  }
  job.face_count = corners.shape[0];
  if (job.face_count > INT32_MAX) throw InputError("there must be fewer than 2^31 faces");
  if (points.dtype == DType::f32) job.vertices_f32 = static_cast<const float*>(points.data);
  else job.vertices_f64 = static_cast<const double*>(points.data);
  if (corners.dtype == DType::i32) job.faces_i32 = static_cast<const std::int32_t*>(corners.data);
  else if (corners.dtype == DType::i64) job.faces_i64 = static_cast<const std::int64_t*>(corners.data);
  else throw InputError("faces must hold int32 or int64, not " + to_string(corners.dtype));
  DeviceArray ids;
  if (!instances.is_none()) {
    ids = indices_on_device(instances, "instances", device, stream,
                            [&](const Tensor& host) { raster::check_instances(host, job.face_count); });
    if (ids.dtype != DType::i32 || ids.shape != Shape{job.face_count}) {
      throw InputError("instances on the device must be int32 of shape (F,) = (" + std::to_string(job.face_count) +
                       ",), not " + to_string(ids.dtype) + " " + to_string(ids.shape));
    }
    job.instances = static_cast<const std::int32_t*>(ids.data);
  }

  std::vector<std::pair<const char*, DeviceArray>> made;
  const auto make = [&](const char* name, bool asked, DType dtype, bool triple) -> void* {
    if (!asked) return nullptr;
    DeviceArray array;
    array.shape = {job.frames, job.view.height, job.view.width};
    if (triple) array.shape.push_back(3);
    array.dtype = dtype;
    array.device = device;
    const std::shared_ptr<void> memory = cuda::allocate(element_count(array.shape) * item_size(dtype), stream, nullptr);
    array.data = memory.get();
    array.owner = memory;
    made.emplace_back(name, array);
    return array.data;
  };
  job.outputs = {static_cast<float*>(make("depth", wanted.depth, DType::f32, false)),
                 static_cast<std::int32_t*>(make("instances", wanted.instances, DType::i32, false)),
                 static_cast<std::int32_t*>(make("faces", wanted.faces, DType::i32, false)),
                 static_cast<float*>(make("barycentrics", wanted.barycentrics, DType::f32, true)),
                 static_cast<float*>(make("normals", wanted.normals, DType::f32, true)),
                 static_cast<std::uint8_t*>(make("silhouette", wanted.silhouette, DType::boolean, false))};
  {
    const py::gil_scoped_release release;
    cuda::rasterize(job, stream);
  }
  const auto ready = std::make_shared<const cuda::Event>(stream);
  py::typing::Dict<py::str, DeviceArray> out;
  for (auto& [name, array] : made) {
    array.ready = ready;
    out[name] = py::cast(std::move(array));
  }
  return out;
}

}  // namespace

void register_cuda_raster(py::module_& module) {
  register_device_array(module);
  module.def(
      "rasterize", &rasterize, py::arg("vertices"), py::arg("faces"), py::kw_only(), py::arg("intrinsics"),
      py::arg("size"), py::arg("extrinsics") = py::none(), py::arg("instances") = py::none(), py::arg("near") = 1e-3,
      py::arg("cull_back_faces") = false, py::arg("outputs") = std::vector<std::string>{"depth"},
      py::arg("threads") = 0, py::arg("stream") = 0,
      "hoirt._core.rasterize on a CUDA device, with the same result. `vertices` are a contiguous DLPack array on the\n"
      "device; `faces` and `instances` on it too (instances int32) or on the CPU; cameras on the CPU. Returns DLPack\n"
      "arrays on the device. All is enqueued on `stream` (a cudaStream_t as an integer, 0: the default stream); the\n"
      "host does not wait. Faces on the CPU are checked; of those on the device, ones that name no vertex or a\n"
      "vertex that is not finite are not drawn. `threads` is of no use here.");
}

}  // namespace hoirt::bindings
