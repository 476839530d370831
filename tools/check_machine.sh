#!/bin/sh
# Says what this machine lacks to build hoirt, and how to get it on Debian; silent when all is there. $PYTHON: the one to use.
set -eu
fail() {
  printf 'hoirt cannot be built here: %s\n' "$1" >&2
  exit 1
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail 'there is no Python. Install it: apt install python3.11 python3.11-venv python3.11-dev'
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "it needs Python 3.11 or later, $python is $version. Name another one: make PYTHON=/path/to/python3.11 ..."
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "Python $version cannot make virtual environments. Install that part: apt install python$version-venv"
"$python" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))' ||
  fail "the headers of Python $version are missing. Install them: apt install python$version-dev"
compiler=${CXX:-g++}
command -v "$compiler" >/dev/null || fail "there is no C++ compiler ($compiler). Install one: apt install g++"
echo 'int main() {}' | "$compiler" -std=c++20 -x c++ -fsyntax-only - 2>/dev/null ||
  fail "$compiler does not compile C++20; g++ 11 and clang 14 do"
