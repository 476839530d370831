// Runs every registered case, or those whose name holds the first argument.
#include <exception>
#include <iostream>

#include "tests/cpp/check.h"

int main(int count, char** arguments) {
  const std::string wanted = count > 1 ? arguments[1] : "";
  int run = 0;
  for (const auto& test : hoirt::test::cases()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    ++run;
    try {
      test.body();
    } catch (const std::exception& error) {
      hoirt::test::fail(test.name.c_str(), 0, std::string("unexpected exception: ") + error.what());
    }
  }
  std::cout << run << " cases, " << hoirt::test::failures() << " failures\n";
  return run == 0 || hoirt::test::failures() > 0 ? 1 : 0;
}
