#!/bin/sh
# Installs the checkout with plain `pip install .` into an empty environment and uses it from another folder.
# usage: tools/wheel_test.sh [work folder]; $PYTHON: the interpreter that makes the environment
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-"$root/build/wheel-test"}
title() { printf '\033[1m==> %s\033[0m\n' "$1"; }

mkdir -p "$work"
work=$(cd "$work" && pwd)
rm -rf "$work/venv" "$work/elsewhere"
mkdir "$work/elsewhere"
"${PYTHON:-python3}" -m venv "$work/venv"
title 'pip install . into an empty environment'
# A build folder of its own: an isolated build has its tools in other places than the one of `make test`.
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet --quiet install \
  --config-settings=build-dir="$work/native" "$root"

title 'Using the installed package from another folder'
cd "$work/elsewhere"
"$work/venv/bin/python" -I "$root/tools/check_install.py"
"$work/venv/bin/hoirt" --version
"$work/venv/bin/hoirt" pack build --help >/dev/null
if "$work/venv/bin/hoirt" pack build handrefiner --base nothing -o pack 2>error; then
  echo 'hoirt pack build worked without torch' >&2 && exit 1
fi
grep -q "hoirt\[export\]" error
"$work/venv/bin/hoirt" demo -o demo
