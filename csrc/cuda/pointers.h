// Raw device addresses from Python, and what they must meet.
#pragma once

#include <cstdint>
#include <string>

#include "engine/error.h"

namespace hoirt::bindings {

template <typename T>
T* pointer_from(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

inline void require(bool fine, const std::string& message) {
  if (!fine) throw InputError(message);
}

}  // namespace hoirt::bindings
