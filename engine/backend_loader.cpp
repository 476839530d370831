// dlopen of a backend and its creation.
#include "engine/backend_loader.h"

#include <dlfcn.h>

namespace hoirt {
namespace {

std::string loader_error() {
  const char* text = dlerror();
  return text ? text : "the loader gives no reason";
}

}  // namespace

std::shared_ptr<Backend> load_backend(const std::string& path) {
  // A name without a slash would be looked up in the system's library folders.
  if (path.find('/') == std::string::npos || path.find('\0') != std::string::npos) {
    throw BackendError("a backend is named by the path of its shared object, not '" + path + "'");
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) throw BackendError("cannot load the backend " + path + ": " + loader_error());
  void* symbol = dlsym(library, create_backend_symbol);
  if (!symbol) {
    throw BackendError(path + " is not a hoirt backend, it has no symbol " + create_backend_symbol + ": " +
                       loader_error());
  }
  const auto create = reinterpret_cast<CreateBackend>(symbol);
  std::shared_ptr<Backend> backend(create());
  if (!backend) throw BackendError("the backend " + path + " could not be created");
  return backend;
}

}  // namespace hoirt
