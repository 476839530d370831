// _core_cuda.rasterize: the arguments of _core.rasterize with arrays on a CUDA device.
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/device_tensor.h"
#include "csrc/bindings/dlpack_exchange.h"
#include "csrc/bindings/raster_arguments.h"
#include "csrc/cuda/device.h"
#include "csrc/cuda/memory.h"
#include "csrc/cuda/raster.h"
#include "csrc/cuda/raster_module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

// How DLPack and CUDA write the default stream, whose handle is null.
constexpr std::intptr_t legacy_stream = 1;

// Where an array lies, if on a CUDA device.
std::optional<Place> cuda_place(const py::object& object, const std::string& name) {
  const auto place = dlpack_place(object, name);
  return place && !place->host() ? place : std::nullopt;
}

// An array on the device; its producer makes `stream` wait until it is written.
Tensor there(const py::object& object, const std::string& name, void* stream) {
  const auto handle = reinterpret_cast<std::intptr_t>(stream);
  return tensor_from_dlpack(object, name, py::int_(handle ? handle : legacy_stream));
}

std::shared_ptr<cuda::Pool> pool_of(Place place) {
  const py::object open = py::module_::import("hoirt.backends.devices").attr("open_device");
  const auto device = py::cast<std::shared_ptr<Device>>(open(to_string(place)));
  return static_cast<const cuda::CudaDevice&>(*device).pool();
}

// An argument that may be on the device, or on the CPU, where it is checked and from where it is copied.
template <typename CheckHost>
Tensor indices_there(const py::object& object, const std::string& name, Place place, const cuda::Queue& queue,
                     const CheckHost& check) {
  if (const auto lies = cuda_place(object, name)) {
    if (*lies != place) throw InputError(name + " must be on the device of the vertices");
    return there(object, name, queue.stream);
  }
  const Tensor host = indices_from(object, name);
  check(host);
  const std::shared_ptr<void> memory = cuda::scratch(host.bytes(), queue);
  cuda::upload(memory.get(), host.raw(), host.bytes(), queue.stream);
  return Tensor::borrow(memory.get(), host.shape(), host.dtype(), memory, place);
}

py::typing::Dict<py::str, DeviceTensor> rasterize(const ArrayLike& vertices, const ArrayLike& faces,
                                                  const ArrayLike& intrinsics, const IntegerSequence& size,
                                                  const OptionalArray& extrinsics, const OptionalArray& instances,
                                                  double near, bool cull_back_faces,
                                                  const std::vector<std::string>& outputs, const Integer& threads,
                                                  std::uintptr_t stream_address) {
  static_cast<void>(unsigned_from(threads, "threads", 1024));
  const auto place = cuda_place(vertices, "vertices");
  if (!place) throw InputError("vertices must be on a CUDA device; hoirt._core.rasterize takes those on the CPU");
  const cuda::DeviceScope scope(place->index);
  void* stream = reinterpret_cast<void*>(stream_address);
  cuda::refuse_capture(stream);
  const std::shared_ptr<cuda::Pool> pool = pool_of(*place);
  const cuda::Queue queue{stream, pool->handle()};
  Tensor points = there(vertices, "vertices", stream);
  if (points.rank() == 2) points = points.reshaped({1, points.dim(0), points.dim(1)});
  raster::check_vertices(points.shape(), points.dtype());

  cuda::RasterJob job;
  job.meshes = points.dim(0);
  job.vertex_count = points.dim(1);
  job.cameras = cameras_from(intrinsics, extrinsics);
  job.view = view_from(size, near, cull_back_faces);
  job.frames = raster::check_views(job.meshes, job.cameras, job.view);
  const raster::Wanted wanted = wanted_from(outputs);
  const Tensor corners = indices_there(
      faces, "faces", *place, queue, [&](const Tensor& host) { raster::check_faces(host, job.vertex_count); });
  if (corners.rank() != 2 || corners.dim(1) != 3) {
    throw InputError("faces must have shape (F, 3), not " + to_string(corners.shape()));
  }
  job.face_count = corners.dim(0);
  if (job.face_count > INT32_MAX) throw InputError("there must be fewer than 2^31 faces");
  if (points.dtype() == DType::f32) job.vertices_f32 = points.data<float>();
  else job.vertices_f64 = points.data<double>();
  if (corners.dtype() == DType::i32) job.faces_i32 = corners.data<std::int32_t>();
  else if (corners.dtype() == DType::i64) job.faces_i64 = corners.data<std::int64_t>();
  else throw InputError("faces must hold int32 or int64, not " + to_string(corners.dtype()));
  std::vector<Tensor> read{points};  // what is not ours
  if (cuda_place(faces, "faces")) read.push_back(corners);
  Tensor ids;
  if (!instances.is_none()) {
    ids = indices_there(instances, "instances", *place, queue,
                        [&](const Tensor& host) { raster::check_instances(host, job.face_count); });
    if (ids.dtype() != DType::i32 || ids.shape() != Shape{job.face_count}) {
      throw InputError("instances on the device must be int32 of shape (F,) = (" + std::to_string(job.face_count) +
                       ",), not " + to_string(ids.dtype()) + " " + to_string(ids.shape()));
    }
    job.instances = std::as_const(ids).data<std::int32_t>();
    if (cuda_place(instances, "instances")) read.push_back(ids);
  }

  const auto written = std::make_shared<cuda::CudaEvent>(place->index);
  std::vector<std::pair<const char*, Tensor>> made;
  const auto make = [&](const char* name, bool asked, DType dtype, bool triple) -> void* {
    if (!asked) return nullptr;
    Shape shape{job.frames, job.view.height, job.view.width};
    if (triple) shape.push_back(3);
    const std::shared_ptr<void> memory = cuda::result(element_count(shape) * item_size(dtype), queue, written, read);
    made.emplace_back(name, Tensor::borrow(memory.get(), shape, dtype, memory, *place));
    return memory.get();
  };
  job.outputs = {static_cast<float*>(make("depth", wanted.depth, DType::f32, false)),
                 static_cast<std::int32_t*>(make("instances", wanted.instances, DType::i32, false)),
                 static_cast<std::int32_t*>(make("faces", wanted.faces, DType::i32, false)),
                 static_cast<float*>(make("barycentrics", wanted.barycentrics, DType::f32, true)),
                 static_cast<float*>(make("normals", wanted.normals, DType::f32, true)),
                 static_cast<std::uint8_t*>(make("silhouette", wanted.silhouette, DType::boolean, false))};
  {
    const py::gil_scoped_release release;
    cuda::rasterize(job, queue);
  }
  written->record(stream);
  py::typing::Dict<py::str, DeviceTensor> out;
  for (const auto& [name, tensor] : made) out[name] = py::cast(DeviceTensor{tensor, written});
  return out;
}

}  // namespace

void register_cuda_raster(py::module_& module) {
  py::module_::import("hoirt._core");  // whose DeviceTensor is returned
  module.def(
      "rasterize", &rasterize, py::arg("vertices"), py::arg("faces"), py::kw_only(), py::arg("intrinsics"),
      py::arg("size"), py::arg("extrinsics") = py::none(), py::arg("instances") = py::none(), py::arg("near") = 1e-3,
      py::arg("cull_back_faces") = false, py::arg("outputs") = std::vector<std::string>{"depth"},
      py::arg("threads") = 0, py::arg("stream") = 0,
      "hoirt._core.rasterize on a CUDA device, with the same result. `vertices` are a contiguous DLPack array on the\n"
      "device; `faces` and `instances` on it too (instances int32) or on the CPU; cameras on the CPU. Returns arrays\n"
      "on the device. All is enqueued on `stream` (a cudaStream_t as an integer, 0: the default stream); the\n"
      "host does not wait. Faces on the CPU are checked; of those on the device, ones that name no vertex or a\n"
      "vertex that is not finite are not drawn. `threads` is of no use here.");
}

}  // namespace hoirt::bindings
