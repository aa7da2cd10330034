#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# forbidden_include.sh ALLOWED FORBIDDEN COMPILER ARGUMENTS...: with a folder's own include paths the allowed header must
# compile and the forbidden one must not be found: the wall stands, and the check itself can fail.
allowed=$1 forbidden=$2
shift 2
compile() {
  header=$1
  shift
  printf '#include "%s"\n' "$header" | "$@" -std=c++23 -fsyntax-only -x c++ - 2>&1
}
compile "$allowed" "$@" || { echo "FAIL: $allowed should compile"; exit 1; }
said=$(compile "$forbidden" "$@") && { echo "FAIL: $forbidden is within reach"; exit 1; }
case $said in
  *"No such file"* | *"file not found"*) ;;
  *) echo "FAIL: $forbidden failed for another reason: $said"; exit 1 ;;
esac
