// hoirt._core: the Python face of the native engine; every class registers itself.
#include "csrc/bindings/module.h"

PYBIND11_MODULE(_core, module) {
  using namespace hoirt::bindings;
  module.doc() = "Native core of hoirt. The public API is the package hoirt; names here may change.";
  module.attr("__version__") = HOIRT_VERSION;
  register_errors(module);
  register_tensor(module);
  register_step_table(module);
  register_cancel(module);
  register_device_tensor(module);
  register_device(module);
  register_network(module);
  register_denoise_loop(module);
  register_random(module);
  register_image(module);
  register_pictures(module);
  register_maps(module);
  register_raster(module);
  register_skin(module);
  register_encode(module);
}
