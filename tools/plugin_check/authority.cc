// SPDX-License-Identifier: Apache-2.0
// Tests of sealers, upstream authorities and bundle publishers.
#include "crypto/x509.h"
#include "plugin_check/check.h"

namespace limpet::check {
namespace {

constexpr int64_t kSlowMs = 60'000;

// ---- sealers ----

bool sealed(Check& c, Subject& s, const std::string& plain, const std::string& context, std::string& blob) {
  const Op& op = seal(s, plain, context);
  if (!c.succeeded(s, op, "seal", kSlowMs)) return false;
  blob = op.bytes;
  return true;
}

void round_trip(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (const size_t size : {1ul, 32ul, 4096ul}) {
    const std::string plain(size, 'p');
    for (const std::string& context : {std::string(), std::string("cache"), std::string(64, 'c')}) {
      std::string blob;
      if (!sealed(c, *s, plain, context, blob)) return;
      const Op& op = unseal(*s, blob, context);
      if (!c.succeeded(*s, op, "unseal", kSlowMs)) return;
      if (op.bytes != plain) return c.fail("unseal gave other bytes than were sealed");
      if (size >= 32 && blob.find(plain) != std::string::npos) return c.fail("the blob shows what was sealed");
    }
  }
  c.destroyed(*s);
}

void context_bound(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::string blob;
  if (!sealed(c, *s, "a secret of some length", "one", blob)) return;
  for (const char* context : {"two", "", "on", "one "}) {
    const Op& op = unseal(*s, blob, context);
    if (!c.answered(*s, op, "unseal", kSlowMs)) return;
    if (op.ok())
      return c.fail(std::string("a blob sealed with the context \"one\" was opened with \"") + context + "\"");
    if (op.code != LIMPET_FAILED_PRECONDITION && op.code != LIMPET_INVALID_ARGUMENT)
      return c.fail("unseal with another context gave " + op.outcome() + " instead of FailedPrecondition");
  }
  c.destroyed(*s);
}

void altered_blob(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::string blob;
  const std::string plain = "a secret of some length";
  if (!sealed(c, *s, plain, "one", blob)) return;
  std::vector<std::string> lies = {"", "x", blob + "x", blob.substr(0, blob.size() - 1),
                                   std::string(blob.size(), '\0')};
  for (size_t at = 0; at < blob.size(); at += std::max<size_t>(blob.size() / 16, 1)) {
    lies.push_back(blob);
    lies.back()[at] = static_cast<char>(lies.back()[at] ^ 0x40);
  }
  for (const std::string& lie : lies) {
    const Op& op = unseal(*s, lie, "one");
    if (!c.answered(*s, op, "unseal", kSlowMs)) return;
    if (op.ok() && op.bytes != plain) return c.fail("a blob that was altered was opened, and gave other bytes");
    if (op.ok()) c.warn("a blob was opened though something in it was altered that does not matter: bind all of it");
    if (!op.ok() && op.code != LIMPET_FAILED_PRECONDITION && op.code != LIMPET_INVALID_ARGUMENT)
      return c.fail("unseal of an altered blob gave " + op.outcome() + " instead of FailedPrecondition");
  }
  c.destroyed(*s);
}

void bounds(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const std::pair<size_t, size_t> sizes[] = {{0, 0}, {4097, 0}, {32, 65}};
  for (const auto& [plain, context] : sizes) {
    const Op& op = seal(*s, std::string(plain, 'p'), std::string(context, 'c'));
    if (!c.answered(*s, op, "seal", kSlowMs)) return;
    if (op.ok())
      return c.fail("seal took " + std::to_string(plain) + " bytes with " + std::to_string(context) + " of context");
  }
  c.destroyed(*s);
}

void restarted(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::string blob;
  if (!sealed(c, *s, "a secret of some length", "one", blob) || !c.destroyed(*s)) return;
  Subject* next = c.ready();
  if (next == nullptr) return;
  const Op& op = unseal(*next, blob, "one");
  if (!c.succeeded(*next, op, "unseal after a restart", kSlowMs)) return;
  if (op.bytes != "a secret of some length") return c.fail("unseal after a restart gave other bytes");
  c.destroyed(*next);
}

// ---- upstream authorities ----

void mints(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = mint_ca(*s, sample_csr(), 3600);
  if (!c.succeeded(*s, op, "mint_ca", kSlowMs)) return;
  if (op.chain.empty() || op.roots.empty()) return c.fail("mint_ca answered without a chain or without roots");
  std::vector<Certificate> chain;
  for (const std::string& der : op.chain) {
    auto parsed = Certificate::parse(as_bytes(der));
    if (!parsed) return c.fail("a certificate of the chain cannot be read: " + parsed.error().message);
    chain.push_back(std::move(*parsed));
  }
  if (std::string(as_text(chain[0].key.spki())) != sample_spki())
    return c.fail("the first certificate is not for the key of the request");
  if (!chain[0].ca) return c.fail("the first certificate is not a CA's");
  for (size_t i = 0; i + 1 < chain.size(); ++i) {
    if (!chain[i].verify_signed_by(chain[i + 1]))
      return c.fail("certificate " + std::to_string(i) + " of the chain is not signed by the next one");
  }
  bool rooted = false;
  for (const std::string& der : op.roots) {
    const auto root = Certificate::parse(as_bytes(der));
    if (!root) return c.fail("a root cannot be read: " + root.error().message);
    rooted = rooted || chain.back().der == root->der || chain.back().verify_signed_by(*root).has_value();
  }
  if (!rooted) return c.fail("the chain does not end at any of the roots");
  c.destroyed(*s);
}

void bad_requests(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::string forged = sample_csr();
  if (!forged.empty()) forged.back() = static_cast<char>(forged.back() ^ 1);
  for (const std::string& csr : {std::string(), std::string("no request"), sample_csr().substr(0, 40), forged}) {
    const Op& op = mint_ca(*s, csr, 3600);
    if (!c.answered(*s, op, "mint_ca", kSlowMs)) return;
    if (op.ok()) return c.fail("a request that is damaged, or whose signature is wrong, was signed");
  }
  c.destroyed(*s);
}

void watches(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  Op& op = watch_bundle(*s, {.deadline_ms = CallOptions::kUnlimited});
  if (s->blocking() || s->serial()) {
    if (!c.answered(*s, op, "watch_bundle of a BLOCKING or SERIAL component")) return;
  } else {
    c.bench().run_until([&] { return op.updates > 0 || op.ready; }, 5'000);
    s->cancel(op);
    if (!s->wait(op, 2'000)) return c.fail("watch_bundle did not end within 2 s of cancel");
  }
  if (c.config.absent.empty() && op.updates == 0 && op.code != LIMPET_UNIMPLEMENTED)
    return c.fail("watch_bundle told no bundle: " + op.outcome());
  if (op.empty_updates > 0) return c.fail("watch_bundle told a bundle without roots");
  c.destroyed(*s);
}

void jwt_keys(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = publish_jwt_key(*s, "key-1", sample_spki());
  if (!c.answered(*s, op, "publish_jwt_key", kSlowMs)) return;
  if (!op.ok() && op.code != LIMPET_UNIMPLEMENTED && c.config.absent.empty())
    return c.fail("publish_jwt_key gave " + op.outcome() + "; an upstream without JWT keys says Unimplemented");
  c.destroyed(*s);
}

// ---- publishers ----

void publishes(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (int i = 0; i < 3; ++i) {
    const Op& op = publish(*s, {{sample_root()}, "key-1", sample_spki()});
    if (!c.succeeded(*s, op, "publish", kSlowMs)) return;
  }
  const Op& none = publish(*s, {});
  if (!c.answered(*s, none, "publish of an empty bundle", kSlowMs)) return;
  c.destroyed(*s);
}

}  // namespace

std::span<const TestCase> authority_tests() {
  static constexpr uint32_t kSealer = of_kind(Kind::sealer);
  static constexpr uint32_t kUpstream = of_kind(Kind::upstream);
  static constexpr uint32_t kPublisher = of_kind(Kind::publisher);
  static const TestCase kTests[] = {
      {"sealer.round_trip", "what is sealed is opened again", round_trip, {"op.answers"}, kSealer, false, false, true},
      {"sealer.context",
       "another context does not open a blob",
       context_bound,
       {"sealer.round_trip"},
       kSealer,
       false,
       false,
       true},
      {"sealer.altered",
       "an altered blob is not opened",
       altered_blob,
       {"sealer.round_trip"},
       kSealer,
       false,
       false,
       true},
      {"sealer.bounds",
       "no text, more than 4 KiB, more than 64 bytes of context are refused",
       bounds,
       {"op.answers"},
       kSealer,
       false,
       false,
       true},
      {"sealer.restart",
       "a blob is opened after a restart",
       restarted,
       {"sealer.round_trip"},
       kSealer,
       false,
       false,
       true},
      {"upstream.mints",
       "the chain is for the request's key and ends at a root",
       mints,
       {"op.answers"},
       kUpstream,
       false,
       false,
       true},
      {"upstream.bad_requests", "a bad request is not signed", bad_requests, {"op.answers"}, kUpstream},
      {"upstream.watches", "watch_bundle tells a bundle and ends once", watches, {"op.answers"}, kUpstream},
      {"upstream.jwt_keys", "publish_jwt_key succeeds, or is Unimplemented", jwt_keys, {"op.answers"}, kUpstream},
      {"publisher.publishes",
       "a bundle is published, again and again",
       publishes,
       {"op.answers"},
       kPublisher,
       false,
       false,
       true},
  };
  return kTests;
}

}  // namespace limpet::check
