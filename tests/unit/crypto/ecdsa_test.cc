// SPDX-License-Identifier: Apache-2.0
// The seam, seen from mbedTLS's own TLS: handshakes over memory with a key that lives elsewhere.

#include "crypto/ecdsa.h"

#include <gtest/gtest.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

#include <atomic>
#include <deque>

#include "crypto/mbed.h"
#include "unit/support/mint.h"

namespace limpet {
namespace {

using namespace test;  // NOLINT

class CountingSigner final : public BlockingSigner {
 public:
  CountingSigner(const PrivateKey& key, bool works = true) : key_(key), works_(works) {}
  Result<Bytes> sign(HashAlg alg, BytesView digest) const override {
    ++calls;
    if (!works_) return fail(Code::unavailable, "the token is gone");
    return key_.sign(alg, digest);
  }
  mutable std::atomic<int> calls = 0;

 private:
  const PrivateKey& key_;
  bool works_;
};

// A signer must not ask the seam for the key it stands for, so the tests sign with a copy that bypasses the registry.
class DirectSigner final : public BlockingSigner {
 public:
  explicit DirectSigner(const PrivateKey& key) : key_(key) {}
  Result<Bytes> sign(HashAlg alg, BytesView digest) const override {
    ++calls;
    Bytes out(MBEDTLS_ECDSA_MAX_LEN);
    size_t size = 0;
    const int code = mbedtls_ecdsa_write_signature_restartable(mbedtls_pk_ec(*key_.impl().pk), mbed_hash(alg),
                                                               digest.data(), digest.size(), out.data(), out.size(),
                                                               &size, mbed_random, nullptr, nullptr);
    if (code != 0) return fail(mbed_error("sign", code));
    out.resize(size);
    return out;
  }
  mutable std::atomic<int> calls = 0;

 private:
  const PrivateKey& key_;
};

using Queue = std::deque<uint8_t>;
struct Pipe {
  Queue* in;
  Queue* out;
};

int pipe_send(void* context, const unsigned char* data, size_t size) {
  auto* out = static_cast<Pipe*>(context)->out;
  out->insert(out->end(), data, data + size);
  return static_cast<int>(size);
}

int pipe_receive(void* context, unsigned char* data, size_t size) {
  auto* in = static_cast<Pipe*>(context)->in;
  if (in->empty()) return MBEDTLS_ERR_SSL_WANT_READ;
  size = std::min(size, in->size());
  std::copy_n(in->begin(), size, data);
  in->erase(in->begin(), in->begin() + static_cast<ptrdiff_t>(size));
  return static_cast<int>(size);
}

struct Side {
  Mbed<mbedtls_ssl_config, mbedtls_ssl_config_init, mbedtls_ssl_config_free> config;
  Mbed<mbedtls_ssl_context, mbedtls_ssl_init, mbedtls_ssl_free> ssl;
  Mbed<mbedtls_x509_crt, mbedtls_x509_crt_init, mbedtls_x509_crt_free> certificate;
  MbedPk key;
  Pipe pipe{};

  void start(int endpoint, mbedtls_ssl_protocol_version version, const Certificate& leaf) {
    ASSERT_EQ(
        mbedtls_ssl_config_defaults(config.get(), endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
        0);
    mbedtls_ssl_conf_rng(config.get(), mbed_random, nullptr);
    mbedtls_ssl_conf_min_tls_version(config.get(), version);
    mbedtls_ssl_conf_max_tls_version(config.get(), version);
    mbedtls_ssl_conf_authmode(config.get(), MBEDTLS_SSL_VERIFY_OPTIONAL);
    ASSERT_EQ(mbedtls_x509_crt_parse_der(certificate.get(), leaf.der.data(), leaf.der.size()), 0);
    ASSERT_EQ(mbedtls_ssl_conf_own_cert(config.get(), certificate.get(), key.get()), 0);
    ASSERT_EQ(mbedtls_ssl_setup(ssl.get(), config.get()), 0);
    if (endpoint == MBEDTLS_SSL_IS_CLIENT) {
      ASSERT_EQ(mbedtls_ssl_set_hostname(ssl.get(), nullptr), 0);
    }
    mbedtls_ssl_set_bio(ssl.get(), &pipe, pipe_send, pipe_receive, nullptr);
  }
};

// Both sides in turn until both are through or one fails. Returns the first failure.
int handshake(Side& client, Side& server) {
  for (int turn = 0; turn < 100; ++turn) {
    const int c = mbedtls_ssl_handshake(client.ssl.get());
    const int s = mbedtls_ssl_handshake(server.ssl.get());
    for (int code : {s, c})
      if (code != 0 && code != MBEDTLS_ERR_SSL_WANT_READ && code != MBEDTLS_ERR_SSL_WANT_WRITE) return code;
    if (c == 0 && s == 0) return 0;
  }
  return -1;
}

class SeamInTls : public ::testing::TestWithParam<mbedtls_ssl_protocol_version> {
 protected:
  void SetUp() override {
    mbed_start();
    client.pipe = {&to_client, &to_server};
    server.pipe = {&to_server, &to_client};
  }
  Queue to_client, to_server;
  Side client, server;
  const PrivateKey& key = shared_key(KeyType::ec_p256, 100);
  const Certificate leaf = make_leaf(make_root());
};

TEST_P(SeamInTls, BothSidesHandshakeWithAKeyThatLivesElsewhere) {
  const auto signer = std::make_shared<DirectSigner>(key);
  const RemoteKey remote(key.public_key(), signer);
  ASSERT_TRUE(load_remote_pk(*client.key, key.public_key()).has_value());
  ASSERT_TRUE(load_remote_pk(*server.key, key.public_key()).has_value());
  client.start(MBEDTLS_SSL_IS_CLIENT, GetParam(), leaf);
  server.start(MBEDTLS_SSL_IS_SERVER, GetParam(), leaf);
  EXPECT_EQ(handshake(client, server), 0);
  EXPECT_EQ(signer->calls, 2);  // CertificateVerify of the client; the server's, or its key exchange in 1.2
  ASSERT_NE(mbedtls_ssl_get_peer_cert(server.ssl.get()), nullptr);
}

TEST_P(SeamInTls, TheHandshakeFailsWhenTheSignerFails) {
  const auto signer = std::make_shared<CountingSigner>(key, false);
  const RemoteKey remote(key.public_key(), signer);
  ASSERT_TRUE(load_remote_pk(*client.key, key.public_key()).has_value());
  ASSERT_TRUE(load_remote_pk(*server.key, key.public_key()).has_value());
  client.start(MBEDTLS_SSL_IS_CLIENT, GetParam(), leaf);
  server.start(MBEDTLS_SSL_IS_SERVER, GetParam(), leaf);
  EXPECT_NE(handshake(client, server), 0);
  EXPECT_EQ(signer->calls, 1);
}

TEST_P(SeamInTls, TheHandshakeFailsWhenNoSignerIsRegistered) {
  ASSERT_TRUE(load_remote_pk(*client.key, key.public_key()).has_value());
  ASSERT_TRUE(load_remote_pk(*server.key, key.public_key()).has_value());
  client.start(MBEDTLS_SSL_IS_CLIENT, GetParam(), leaf);
  server.start(MBEDTLS_SSL_IS_SERVER, GetParam(), leaf);
  EXPECT_NE(handshake(client, server), 0);
}

TEST_P(SeamInTls, KeysInMemoryNeedNoSigner) {
  const auto other = std::make_shared<CountingSigner>(key);
  const RemoteKey remote(shared_key(KeyType::ec_p256, 1).public_key(), other);  // somebody else's key is registered
  ASSERT_TRUE(load_pk(*client.key, key).has_value());
  ASSERT_TRUE(load_pk(*server.key, key).has_value());
  client.start(MBEDTLS_SSL_IS_CLIENT, GetParam(), leaf);
  server.start(MBEDTLS_SSL_IS_SERVER, GetParam(), leaf);
  EXPECT_EQ(handshake(client, server), 0);
  EXPECT_EQ(other->calls, 0);
}

INSTANTIATE_TEST_SUITE_P(Versions, SeamInTls, ::testing::Values(MBEDTLS_SSL_VERSION_TLS1_2, MBEDTLS_SSL_VERSION_TLS1_3),
                         [](const auto& param) {
                           return param.param == MBEDTLS_SSL_VERSION_TLS1_2 ? "Tls12" : "Tls13";
                         });

TEST(RemoteKey, TheLatestRegistrationSignsAndTheEarlierOneComesBack) {
  const PrivateKey& key = shared_key(KeyType::ec_p256);
  const auto first = std::make_shared<DirectSigner>(key);
  const auto second = std::make_shared<DirectSigner>(key);
  const Bytes digest = sha256({});
  MbedPk pk;
  ASSERT_TRUE(load_remote_pk(*pk, key.public_key()).has_value());
  Bytes signature(MBEDTLS_ECDSA_MAX_LEN);
  const auto sign = [&] {
    size_t size = 0;
    return ecdsa_seam::sign(mbedtls_pk_ec(*pk), MBEDTLS_MD_SHA256, digest, signature, &size);
  };
  const RemoteKey outer(key.public_key(), first);
  {
    const RemoteKey inner(key.public_key(), second);
    EXPECT_EQ(sign(), 0);
  }
  EXPECT_EQ(sign(), 0);
  EXPECT_EQ(first->calls, 1);
  EXPECT_EQ(second->calls, 1);
}

TEST(RemoteKey, AKeyManagerInThisProcessIsNotLedBackToItself) {
  const PrivateKey& key = shared_key(KeyType::ec_p256);
  const auto signer = std::make_shared<DirectSigner>(key);
  const RemoteKey remote(key.public_key(), signer);
  const Bytes digest = sha256({});
  const auto signature = key.sign(HashAlg::sha256, digest);
  ASSERT_TRUE(signature.has_value());
  EXPECT_TRUE(key.public_key().verify(HashAlg::sha256, digest, *signature).has_value());
  EXPECT_EQ(signer->calls, 0);
}

TEST(RemoteKey, RsaKeysAreRefusedForTls) {
  MbedPk pk;
  const auto loaded = load_remote_pk(*pk, shared_key(KeyType::rsa_2048).public_key());
  EXPECT_EQ(loaded.error().code, Code::failed_precondition);
  const RemoteKey ignored(shared_key(KeyType::rsa_2048).public_key(), nullptr);
}

TEST(LoadPk, CopiesEveryKindOfKey) {
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    MbedPk pk;
    ASSERT_TRUE(load_pk(*pk, shared_key(type)).has_value());
    EXPECT_EQ(mbedtls_pk_check_pair(pk.get(), shared_key(type).impl().pk.get(), mbed_random, nullptr), 0);
  }
}

}  // namespace
}  // namespace limpet
