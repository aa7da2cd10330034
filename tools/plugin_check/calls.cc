// SPDX-License-Identifier: Apache-2.0
// The calls.
#include "plugin_check/calls.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

#include "crypto/x509.h"

namespace limpet::check {
namespace {

const PrivateKey& sample_key() {
  static const Result<PrivateKey> key = PrivateKey::generate(KeyType::ec_p256);
  return *key;
}
std::string text_of(BytesView bytes) { return std::string(as_text(bytes)); }

const limpet_key_manager& keys_of(Subject& s) { return s.table<limpet_key_manager>(); }

}  // namespace

Op& attest(Subject& s, const Workload& w, CallOptions options) {
  return s.start(
      Answer::selectors,
      [&s, w](limpet_instance* self, Op& op) {
        const limpet_workload raw = {
            sizeof raw, w.pid, w.pidfd, w.uid, w.gid, 0, op.loan.text(w.reference_type), op.loan.bytes(w.reference)};
        s.table<limpet_workload_attestor>().attest(self, op.raw(), op.loan.value(raw), &done_selectors);
      },
      options);
}

Op& generate(Subject& s, const std::string& id, uint32_t type, CallOptions options) {
  return s.start(
      Answer::key,
      [&s, id, type](limpet_instance* self, Op& op) {
        keys_of(s).generate(self, op.raw(), op.loan.text(id), type, &done_key);
      },
      options);
}
Op& list(Subject& s, CallOptions options) {
  return s.start(
      Answer::keys, [&s](limpet_instance* self, Op& op) { keys_of(s).list(self, op.raw(), &done_keys); }, options);
}
Op& sign(Subject& s, const SignRequest& r, CallOptions options) {
  return s.start(
      Answer::signature,
      [&s, r](limpet_instance* self, Op& op) {
        const limpet_sign_request raw = {
            sizeof raw, r.hash, op.loan.text(r.key_id), op.loan.bytes(r.digest), r.pss_salt_len, 0, {nullptr, 0}};
        keys_of(s).sign(self, op.raw(), op.loan.value(raw), &done_signature);
      },
      options);
}
bool has_remove(Subject& s) {
  return LIMPET_HAS(&keys_of(s), limpet_key_manager, remove) && keys_of(s).remove != nullptr;
}
Op& remove(Subject& s, const std::string& id, CallOptions options) {
  return s.start(
      Answer::plain,
      [&s, id](limpet_instance* self, Op& op) { keys_of(s).remove(self, op.raw(), op.loan.text(id), &done_plain); },
      options);
}

Op& payload(Subject& s, Conversation& c, CallOptions options) {
  return s.start(
      Answer::bytes,
      [&s, &c](limpet_instance* self, Op& op) {
        const auto& table = s.table<limpet_node_attestor_agent>();
        if (c.session == nullptr) c.session = table.open(self);
        const limpet_status none = {sizeof none, LIMPET_RESOURCE_EXHAUSTED, {"open gave no session", 20}, 0, 0};
        if (c.session == nullptr) return done_bytes(op.raw(), &none, {});
        table.payload(c.session, op.raw(), &done_bytes);
      },
      options);
}
Op& answer(Subject& s, Conversation& c, const std::string& challenge, CallOptions options) {
  return s.start(
      Answer::bytes,
      [&s, &c, challenge](limpet_instance* self, Op& op) {
        const auto& table = s.table<limpet_node_attestor_agent>();
        if (c.session == nullptr) c.session = table.open(self);
        const limpet_status none = {sizeof none, LIMPET_RESOURCE_EXHAUSTED, {"open gave no session", 20}, 0, 0};
        if (c.session == nullptr) return done_bytes(op.raw(), &none, {});
        table.answer(c.session, op.raw(), op.loan.bytes(challenge), &done_bytes);
      },
      options);
}
Op& step(Subject& s, Conversation& c, const std::string& from_agent, CallOptions options) {
  return s.start(
      Answer::step,
      [&s, &c, from_agent](limpet_instance* self, Op& op) {
        const auto& table = s.table<limpet_node_attestor_server>();
        if (c.session == nullptr) {
          const limpet_attempt attempt = {
              sizeof attempt, 0, op.loan.text("127.0.0.1"), {nullptr, 0}, op.loan.text("example.org")};
          c.session = table.open(self, op.loan.value(attempt));
        }
        const limpet_status none = {sizeof none, LIMPET_RESOURCE_EXHAUSTED, {"open gave no session", 20}, 0, 0};
        if (c.session == nullptr) return done_step(op.raw(), &none, nullptr);
        table.step(c.session, op.raw(), op.loan.bytes(from_agent), &done_step);
      },
      options);
}

Op& seal(Subject& s, const std::string& plain, const std::string& context, CallOptions options) {
  return s.start(
      Answer::bytes,
      [&s, plain, context](limpet_instance* self, Op& op) {
        s.table<limpet_sealer>().seal(self, op.raw(), op.loan.bytes(plain), op.loan.bytes(context), &done_bytes);
      },
      options);
}
Op& unseal(Subject& s, const std::string& blob, const std::string& context, CallOptions options) {
  return s.start(
      Answer::bytes,
      [&s, blob, context](limpet_instance* self, Op& op) {
        s.table<limpet_sealer>().unseal(self, op.raw(), op.loan.bytes(blob), op.loan.bytes(context), &done_bytes);
      },
      options);
}

Op& mint_ca(Subject& s, const std::string& csr, uint32_t ttl_s, CallOptions options) {
  return s.start(
      Answer::minted,
      [&s, csr, ttl_s](limpet_instance* self, Op& op) {
        s.table<limpet_upstream_authority>().mint_ca(self, op.raw(), op.loan.bytes(csr), ttl_s, &done_minted);
      },
      options);
}
Op& watch_bundle(Subject& s, CallOptions options) {
  return s.start(
      Answer::plain,
      [&s](limpet_instance* self, Op& op) {
        s.table<limpet_upstream_authority>().watch_bundle(self, op.raw(), &on_update, &done_plain);
      },
      options);
}
Op& publish_jwt_key(Subject& s, const std::string& id, const std::string& spki, CallOptions options) {
  return s.start(
      Answer::plain,
      [&s, id, spki](limpet_instance* self, Op& op) {
        const limpet_jwt_key key = {sizeof key, 0, op.loan.text(id), op.loan.bytes(spki), std::time(nullptr) + 3600};
        s.table<limpet_upstream_authority>().publish_jwt_key(self, op.raw(), op.loan.value(key), &done_plain);
      },
      options);
}
Op& publish(Subject& s, const Bundle& b, CallOptions options) {
  return s.start(
      Answer::plain,
      [&s, b](limpet_instance* self, Op& op) {
        const limpet_bytes* roots = nullptr;
        std::vector<limpet_bytes> items;
        for (const std::string& root : b.roots) items.push_back(op.loan.bytes(root));
        const limpet_str held = op.loan.text(
            std::string_view(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(limpet_bytes)));
        roots = reinterpret_cast<const limpet_bytes*>(held.ptr);
        const limpet_jwt_key key = {sizeof key, 0, op.loan.text(b.jwt_key_id), op.loan.bytes(b.jwt_key_spki), 0};
        const limpet_jwt_key* const lent = op.loan.value(key);
        const size_t count = b.jwt_key_id.empty() ? 0 : 1;
        const limpet_bundle bundle = {sizeof bundle, 300, {roots, items.size()}, op.loan.value(lent), count, {}};
        s.table<limpet_bundle_publisher>().publish(self, op.raw(), op.loan.value(bundle), &done_plain);
      },
      options);
}

Op& probe(Subject& s, CallOptions options) {
  switch (s.kind()) {
    case Kind::workload:
      return attest(s, {::getpid(), -1, ::geteuid(), ::getegid()}, options);
    case Kind::key_manager:
      return list(s, options);
    case Kind::agent:
      return payload(s, s.converse(), options);
    case Kind::server:
      return step(s, s.converse(), "plugin-check", options);
    case Kind::sealer:
      return seal(s, "thirty-two bytes of secret text.", "plugin-check", options);
    case Kind::upstream:
      return mint_ca(s, sample_csr(), 3600, options);
    case Kind::publisher:
      return publish(s, {{sample_root()}, "key", sample_spki()}, options);
    case Kind::unknown:
      break;
  }
  return s.configure("{}", true, "example.org", options);
}

Op& oversized(Subject& s, size_t size, CallOptions options) {
  const std::string much(size, 'A');
  switch (s.kind()) {
    case Kind::workload:
      return attest(s, {::getpid(), -1, ::geteuid(), ::getegid(), "type/" + much, much}, options);
    case Kind::key_manager:
      return sign(s, {much, LIMPET_HASH_SHA256, much}, options);
    case Kind::agent:
      return answer(s, s.converse(), much, options);
    case Kind::server:
      return step(s, s.converse(), much, options);
    case Kind::sealer:
      return unseal(s, much, much, options);
    case Kind::upstream:
      return mint_ca(s, much, 3600, options);
    case Kind::publisher:
      return publish(s, {{much}, much, much}, options);
    case Kind::unknown:
      break;
  }
  return s.configure("{}", true, much, options);
}

std::string told(const Op& op) {
  std::string out = op.outcome();
  for (const std::string& selector : op.selectors) out += "\n" + selector;
  for (const Key& key : op.keys) out += "\n" + key.id + " " + key.fingerprint;
  return out;
}

const std::string& sample_csr() {
  static const std::string csr = [] {
    CsrTemplate wish;
    wish.subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIFFE"}});
    wish.spki = sample_key().public_key().spki();
    wish.uris = {"spiffe://example.org"};
    const auto made = make_csr(wish, sample_key());
    return made ? text_of(*made) : std::string();
  }();
  return csr;
}

const std::string& sample_spki() {
  static const std::string spki = text_of(sample_key().public_key().spki());
  return spki;
}

const std::string& sample_root() {
  static const std::string root = [] {
    CertificateTemplate wish;
    wish.serial = random_serial();
    wish.subject = wish.issuer = encode_name({{kOidOrganization, "plugin-check"}});
    wish.not_before = std::time(nullptr) - 60;
    wish.not_after = wish.not_before + 86'400;
    wish.spki = sample_key().public_key().spki();
    wish.ca = true;
    wish.key_usage = kKeyCertSign | kCrlSign;
    wish.uris = {"spiffe://example.org"};
    wish.subject_key_id = sample_key().public_key().key_id();
    const Bytes tbs = encode_tbs(wish, KeyType::ec_p256, HashAlg::sha256);
    const auto signature = sample_key().sign(HashAlg::sha256, sha256(tbs));
    return signature ? text_of(seal_certificate(tbs, KeyType::ec_p256, HashAlg::sha256, *signature)) : std::string();
  }();
  return root;
}

}  // namespace limpet::check
