// SPDX-License-Identifier: Apache-2.0
// Every kind of component over shim/limpet.hpp, as small as plugin-check lets it be. The streams and cancel are here; a
// workload attestor that does some work is abi/example/cgroup_attestor.cc.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <limpet.hpp>
#include <list>
#include <map>

#include "authority.h"

namespace {

using limpet::Bytes;

// {} or {"tag":"letters"}.
limpet::Status check_json(limpet_str json) {
  const std::string_view text = limpet::view(json);
  constexpr std::string_view kStart = "{\"tag\":\"";
  bool good = text.size() > kStart.size() + 2 && text.substr(0, kStart.size()) == kStart &&
              text.substr(text.size() - 2) == "\"}";
  for (size_t i = kStart.size(); good && i < text.size() - 2; ++i) good = text[i] >= 'a' && text[i] <= 'z';
  if (good || text == "{}") return {};
  return {LIMPET_INVALID_ARGUMENT, "only the key tag is known, of small letters", 0};
}

class Base {
 public:
  explicit Base(limpet::Host host) : host_(host) {}
  limpet::Status configure(const limpet::Config& config) { return check_json(config.json); }

 protected:
  limpet::Host host_;
};

class Workload final : public Base {
 public:
  using Base::Base;
  void attest(const limpet_workload& workload, limpet::SelectorsReply reply) {
    if (workload.reference_type.len > 0) return reply.ok();
    pollfd exited = {workload.pidfd, POLLIN, 0};
    const bool gone = workload.pid <= 0 || (::kill(workload.pid, 0) != 0 && errno == ESRCH);
    if (gone || (workload.pidfd >= 0 && ::poll(&exited, 1, 0) != 0))
      return reply.fail(LIMPET_NOT_FOUND, "the process has exited");
    host_.log(4, "Process seen", {{"pid", std::to_string(workload.pid)}});
    reply.ok({"pid:" + std::to_string(workload.pid)});
  }
};

// The agent turns the bits of the server's nonce around, as checked_node.c does.
constexpr std::string_view kHello = "wrapped-agent-7";
constexpr size_t kNonce = 16;
Bytes turned(Bytes nonce) {
  for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(~byte);
  return nonce;
}
class Agent final : public Base {
 public:
  using Base::Base;
  struct Session {
    void payload(limpet::BytesReply reply) { reply.ok(kHello); }
    void answer(limpet_bytes challenge, limpet::BytesReply reply) {
      if (challenge.len != kNonce) return reply.fail(LIMPET_INVALID_ARGUMENT, "the challenge has not 16 bytes");
      reply.ok(turned(limpet::copy(challenge)));
    }
  };
  std::unique_ptr<Session> open() { return std::make_unique<Session>(); }
};
class Server final : public Base {
 public:
  using Base::Base;
  struct Session {
    void step(limpet_bytes said, limpet::StepReply reply) {
      const Bytes text = limpet::copy(said);
      if (nonce.empty() && text == Bytes(kHello.begin(), kHello.end())) {
        nonce.resize(kNonce);
        if (::getrandom(nonce.data(), nonce.size(), 0) != static_cast<ssize_t>(nonce.size())) return;
        return reply.challenge(nonce);
      }
      if (nonce.empty() || text != turned(nonce)) return reply.fail(LIMPET_PERMISSION_DENIED, "this is not the agent");
      reply.attested("/spire/agent/wrapped/7", {"kind:wrapped"}, true);
    }
    Bytes nonce = {};
  };
  std::unique_ptr<Session> open(const limpet_attempt&) { return std::make_unique<Session>(); }
};

class Keys final : public Base {
 public:
  explicit Keys(limpet::Host host) : Base(host) { authority_init(&random_); }
  ~Keys() {
    for (auto& [id, key] : keys_) mbedtls_pk_free(&key.pk);
    authority_free(&random_);
  }
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  void generate(std::string_view id, uint32_t type, limpet::KeyReply reply) {
    if (type != LIMPET_KEY_EC_P256) return reply.fail(LIMPET_UNIMPLEMENTED, "only ec-p256 is known");
    if (id.empty() || id.size() > 63 || id.find('\0') != id.npos || keys_.size() >= 32)
      return reply.fail(LIMPET_INVALID_ARGUMENT, "at most 32 keys, with ids of 1 to 63 bytes");
    Key& key = keys_[std::string(id)];
    mbedtls_pk_free(&key.pk);
    mbedtls_pk_init(&key.pk);
    mbedtls_pk_setup(&key.pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key.pk), mbedtls_ctr_drbg_random, &random_.random);
    Bytes spki(256);
    const int size = mbedtls_pk_write_pubkey_der(&key.pk, spki.data(), spki.size());
    if (size <= 0) return reply.fail(LIMPET_INTERNAL, "the key cannot be written");
    key.shown = {std::string(id), type, Bytes(spki.end() - size, spki.end()), "key-" + std::to_string(++made_)};
    reply.ok(key.shown);
  }
  void list(limpet::KeysReply reply) {
    std::vector<limpet::PublicKey> all;
    for (const auto& [id, key] : keys_) all.push_back(key.shown);
    reply.ok(all);
  }
  void sign(const limpet_sign_request& request, limpet::SignatureReply reply) {
    const auto key = keys_.find(std::string(limpet::view(request.key_id)));
    if (key == keys_.end()) return reply.fail(LIMPET_NOT_FOUND, "no such key");
    const mbedtls_md_type_t md = request.hash == 5   ? MBEDTLS_MD_SHA256
                                 : request.hash == 6 ? MBEDTLS_MD_SHA384
                                 : request.hash == 7 ? MBEDTLS_MD_SHA512
                                                     : MBEDTLS_MD_NONE;
    if (md == MBEDTLS_MD_NONE || request.pss_salt_len != -1 ||
        request.digest.len != mbedtls_md_get_size(mbedtls_md_info_from_type(md)))
      return reply.fail(LIMPET_INVALID_ARGUMENT, "only digests of SHA-256, SHA-384 and SHA-512 are signed");
    Bytes signature(MBEDTLS_ECDSA_MAX_LEN);
    size_t size = 0;
    if (mbedtls_pk_sign(&key->second.pk, md, request.digest.ptr, request.digest.len, signature.data(), signature.size(),
                        &size, mbedtls_ctr_drbg_random, &random_.random) != 0)
      return reply.fail(LIMPET_INTERNAL, "the key does not sign");
    signature.resize(size);
    reply.ok(signature, key->second.shown.fingerprint);
  }
  void remove(std::string_view id, limpet::DoneReply reply) {
    const auto key = keys_.find(std::string(id));
    if (key == keys_.end()) return reply.fail(LIMPET_NOT_FOUND, "no such key");
    mbedtls_pk_free(&key->second.pk);
    keys_.erase(key);
    reply.ok();
  }

 private:
  struct Key {
    mbedtls_pk_context pk = {};
    limpet::PublicKey shown = {};
  };
  authority random_ = {};  // for its random numbers
  std::map<std::string, Key> keys_ = {};
  unsigned made_ = 0;
};

// A checksum and a mask, which keep no secret from anybody.
class Sealer final : public Base {
 public:
  using Base::Base;
  void seal(limpet_bytes plain, limpet_bytes context, limpet::BytesReply reply) {
    if (plain.len < 1 || plain.len > 4096 || context.len > 64)
      return reply.fail(LIMPET_INVALID_ARGUMENT, "1 to 4096 bytes, and 64 of context, can be sealed");
    Bytes blob = sum_of(turned(limpet::copy(plain)), context);
    for (const uint8_t byte : turned(limpet::copy(plain))) blob.push_back(byte);
    reply.ok(blob);
  }
  void unseal(limpet_bytes blob, limpet_bytes context, limpet::BytesReply reply) {
    Bytes all = limpet::copy(blob);
    if (all.size() < kSum || all.size() > kSum + 4096) return refuse(std::move(reply));
    const Bytes masked(all.begin() + kSum, all.end());
    all.resize(kSum);
    if (sum_of(masked, context) != all) return refuse(std::move(reply));
    reply.ok(turned(masked));
  }

 private:
  static constexpr ptrdiff_t kSum = 8;
  static void refuse(limpet::BytesReply reply) {
    reply.fail(LIMPET_FAILED_PRECONDITION, "this blob was not sealed here");
  }
  static Bytes sum_of(const Bytes& masked, limpet_bytes context) {
    uint64_t sum = 14695981039346656037u + masked.size();
    for (const uint8_t byte : masked) sum = (sum ^ byte) * 1099511628211u;
    for (size_t i = 0; i < context.len; ++i) sum = (sum ^ context.ptr[i] ^ 256) * 1099511628211u;
    Bytes out(kSum);
    memcpy(out.data(), &sum, out.size());
    return out;
  }
};

class Upstream final : public Base {
 public:
  explicit Upstream(limpet::Host host) : Base(host) { authority_init(&authority_); }
  ~Upstream() { authority_free(&authority_); }
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;

  void mint_ca(limpet_bytes csr_der, uint32_t, limpet::MintedReply reply) {
    der minted = {};
    if (!authority_mint(&authority_, csr_der, &minted))
      return reply.fail(LIMPET_INVALID_ARGUMENT, "the request is damaged");
    reply.ok({limpet::copy(der_bytes(&minted))}, {limpet::copy(der_bytes(&authority_.root))});
  }
  void publish_jwt_key(const limpet_jwt_key&, limpet::DoneReply reply) {
    reply.fail(LIMPET_UNIMPLEMENTED, "this upstream knows nothing of JWT keys");
  }
  void watch_bundle(limpet::WatchReply reply) {
    const limpet_bytes root = der_bytes(&authority_.root);
    limpet_bundle bundle = {};
    bundle.size = sizeof bundle;
    bundle.x509_roots_der = {&root, 1};
    reply.update(bundle);
    watchers_.push_back(std::move(reply));
  }
  void cancel(limpet_op* op) {
    for (auto it = watchers_.begin(); it != watchers_.end(); ++it) {
      if (it->op() != op) continue;
      it->fail(LIMPET_CANCELLED, "nobody watches any more");
      watchers_.erase(it);
      return;
    }
  }

 private:
  authority authority_ = {};
  std::list<limpet::WatchReply> watchers_ = {};
};

class Publisher final : public Base {
 public:
  using Base::Base;
  void publish(const limpet_bundle& bundle, limpet::DoneReply reply) {
    roots_ = bundle.x509_roots_der.count;
    reply.ok();
  }

 private:
  size_t roots_ = 0;
};

constexpr limpet_component kWorkload = limpet::workload_attestor<Workload>("wrapped");
constexpr limpet_component kAgent = limpet::node_attestor_agent<Agent>("wrapped");
constexpr limpet_component kServer = limpet::node_attestor_server<Server>("wrapped");
constexpr limpet_component kKeys = limpet::key_manager<Keys>("wrapped", LIMPET_BLOCKING);
constexpr limpet_component kSealer = limpet::sealer<Sealer>("wrapped");
constexpr limpet_component kUpstream = limpet::upstream_authority<Upstream>("wrapped");
constexpr limpet_component kPublisher = limpet::bundle_publisher<Publisher>("wrapped");

}  // namespace

LIMPET_PLUGIN("org.example.wrapped", "1.0.0", "Apache-2.0", &kWorkload, &kAgent, &kServer, &kKeys, &kSealer, &kUpstream,
              &kPublisher)
