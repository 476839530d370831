// The typed errors of hoirt; each has a Python twin of the same name in python/hoirt/errors.py.
#pragma once

#include <stdexcept>
#include <string>

// Default visibility: errors are thrown in one shared object (a backend) and caught in another (_core).
#define HOIRT_API __attribute__((visibility("default")))

namespace hoirt {

class HOIRT_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller gave something that cannot be right: shape, dtype, range, NaN, an unknown name.
class HOIRT_API InputError : public Error {
 public:
  using Error::Error;
};

// A pack is damaged, hostile or of another schema.
class HOIRT_API PackError : public Error {
 public:
  using Error::Error;
};

// A backend is missing or failed; the message says which and why.
class HOIRT_API BackendError : public Error {
 public:
  using Error::Error;
};

// The caller asked to stop, and the run stopped at a step boundary.
class HOIRT_API Cancelled : public Error {
 public:
  using Error::Error;
};

class HOIRT_API OutOfMemory : public Error {
 public:
  using Error::Error;
};

// Marks exceptions that no fallback may swallow, such as a key press that ends the program.
class HOIRT_API Interruption {
 public:
  virtual ~Interruption() = default;
};

}  // namespace hoirt
