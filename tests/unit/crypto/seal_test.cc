// SPDX-License-Identifier: Apache-2.0
#include "crypto/seal.h"

#include <gtest/gtest.h>

#include "crypto/key.h"

namespace limpet {
namespace {

const Bytes kContext = to_bytes("agent svid");

TEST(Seal, WhatIsSealedOpensWithTheSameKeyAndContext) {
  const SecretBytes key(random_bytes(32));
  for (size_t size : {0u, 1u, 16u, 1000u, 70000u}) {
    const Bytes plain = random_bytes(size);
    const auto blob = seal(key, kContext, plain);
    ASSERT_TRUE(blob.has_value());
    EXPECT_EQ(blob->size(), size + 29);
    EXPECT_EQ(blob->at(0), 1);
    const auto opened = unseal(key, kContext, *blob);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    EXPECT_EQ(to_bytes(opened->view()), plain);
  }
}

TEST(Seal, EveryBlobHasItsOwnNonce) {
  const SecretBytes key(random_bytes(32));
  EXPECT_NE(*seal(key, kContext, Bytes(8)), *seal(key, kContext, Bytes(8)));
}

TEST(Seal, RefusesAnotherKeyAnotherContextAndEveryChangedByte) {
  const SecretBytes key(random_bytes(32));
  const Bytes blob = *seal(key, kContext, to_bytes("secret"));
  EXPECT_EQ(unseal(SecretBytes(random_bytes(32)), kContext, blob).error().code, Code::failed_precondition);
  EXPECT_EQ(unseal(key, to_bytes("another"), blob).error().code, Code::failed_precondition);
  for (size_t at = 0; at < blob.size(); ++at) {
    Bytes changed = blob;
    changed[at] ^= 1;
    EXPECT_EQ(unseal(key, kContext, changed).error().code, Code::failed_precondition) << at;
    EXPECT_EQ(unseal(key, kContext, BytesView(blob).first(at)).error().code, Code::failed_precondition) << at;
  }
}

TEST(Seal, RefusesAKeyOfTheWrongSize) {
  for (size_t size : {0u, 16u, 31u, 33u})
    EXPECT_FALSE(seal(SecretBytes(random_bytes(size)), kContext, {}).has_value()) << size;
}

}  // namespace
}  // namespace limpet
