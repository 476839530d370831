// The C structures of the DLPack exchange protocol, version 1.0 (dmlc.github.io/dlpack), as far as tensors need them.
#pragma once

#include <cstdint>

namespace hoirt::bindings::dlpack {

inline constexpr std::int32_t cpu = 1;
inline constexpr std::uint64_t read_only = 1;
inline constexpr std::uint64_t is_copied = 2;

enum class TypeCode : std::uint8_t { integer = 0, unsigned_integer = 1, floating = 2, bfloat = 4, boolean = 6 };

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct DataType {
  TypeCode code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct TensorView {
  void* data;
  Device device;
  std::int32_t rank;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

struct Managed {  // capsule "dltensor"
  static constexpr const char* name = "dltensor";
  static constexpr const char* used_name = "used_dltensor";
  TensorView tensor;
  void* context;
  void (*deleter)(Managed*);
};

struct ManagedVersioned {  // capsule "dltensor_versioned"
  static constexpr const char* name = "dltensor_versioned";
  static constexpr const char* used_name = "used_dltensor_versioned";
  std::uint32_t major;
  std::uint32_t minor;
  void* context;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  TensorView tensor;
};

}  // namespace hoirt::bindings::dlpack
