// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/errno_text.h"

namespace limpet {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(Code::invalid_argument, "odd");
  return n / 2;
}

Result<int> quarter(int n) {
  TRY_ASSIGN_WITHIN("first", int h, half(n));
  TRY_ASSIGN(int q, half(h));
  return q;
}

Result<void> both(int a, int b) {
  TRY(half(a));
  TRY_WITHIN("second", half(b));
  return {};
}

TEST(Code, IsNamedAsGoPrintsIt) {
  EXPECT_EQ(code_name(Code::cancelled), "Canceled");
  EXPECT_EQ(code_name(Code::unauthenticated), "Unauthenticated");
  EXPECT_EQ(code_name(static_cast<Code>(17)), "Code(17)");
  EXPECT_EQ(code_name(static_cast<Code>(-1)), "Code(-1)");
}

TEST(Error, GainsOnePrefixALayer) {
  const Error error = Error{Code::not_found, "no key"}.within("sign").within("mint CA");
  EXPECT_EQ(error.message, "mint CA: sign: no key");
  EXPECT_EQ(error.text(), "NotFound: mint CA: sign: no key");
}

TEST(Try, PassesValuesAndErrorsUp) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(7).error().message, "first: odd");
  EXPECT_EQ(quarter(6).error().message, "odd");
  EXPECT_TRUE(both(2, 4));
  EXPECT_EQ(both(1, 2).error().message, "odd");
  EXPECT_EQ(both(2, 1).error().message, "second: odd");
  EXPECT_EQ(both(2, 1).error().code, Code::invalid_argument);
}

TEST(ErrnoText, IsWordedAsGoWordsIt) {
  EXPECT_EQ(errno_text(ECONNREFUSED), "connection refused");
  EXPECT_EQ(errno_text(-ENOENT), "no such file or directory");  // a libuv status
  EXPECT_EQ(errno_text(ESRMNT), "srmount error");
  EXPECT_EQ(errno_text(EDOTDOT), "RFS specific error");
}

}  // namespace
}  // namespace limpet
