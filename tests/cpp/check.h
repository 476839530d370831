// A very small test harness: TEST registers a case, CHECK and CHECK_THROWS record failures with their place.
#pragma once

#include <functional>
#include <iostream>
#include <string>
#include <vector>

namespace hoirt::test {

struct Case {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

inline void fail(const char* file, int line, const std::string& what) {
  std::cerr << file << ":" << line << ": " << what << "\n";
  ++failures();
}

struct Registration {
  Registration(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};

}  // namespace hoirt::test

#define TEST(name)                                                          \
  static void test_##name();                                                \
  static const hoirt::test::Registration register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) hoirt::test::fail(__FILE__, __LINE__, #condition);    \
  } while (false)

// The statement must throw `Type` with `part` in its message.
#define CHECK_THROWS(Type, part, ...)                                                                   \
  do {                                                                                                  \
    try {                                                                                               \
      __VA_ARGS__;                                                                                      \
      hoirt::test::fail(__FILE__, __LINE__, "nothing was thrown by " #__VA_ARGS__);                     \
    } catch (const Type& error) {                                                                       \
      if (std::string(error.what()).find(part) == std::string::npos) {                                  \
        hoirt::test::fail(__FILE__, __LINE__, std::string("the message lacks '") + part + "': " + error.what()); \
      }                                                                                                 \
    }                                                                                                   \
  } while (false)
