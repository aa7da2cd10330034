// SPDX-License-Identifier: Apache-2.0
// Tests of key managers.
#include <algorithm>

#include <optional>

#include "crypto/key.h"
#include "crypto/pss.h"
#include "plugin_check/check.h"

namespace limpet::check {
namespace {

constexpr uint32_t kTypes[] = {1, 2, 3, 4};  // the header's key types
constexpr int64_t kGenerateMs = 120'000;     // an RSA key of a slow token

bool is_of_type(const PublicKey& key, uint32_t type) {
  const uint32_t bits[] = {0, 256, 384, 2048, 4096};
  return key.is_rsa() == (type >= 3) && key.bits() == bits[type];
}

// The key behind the answer; nullopt after fail().
std::optional<PublicKey> key_of(Check& c, const Op& op, const std::string& id, uint32_t type) {
  if (op.keys.size() != 1) {
    c.fail("generate answered without a key");
    return std::nullopt;
  }
  const Key& key = op.keys[0];
  if (key.id != id || key.type != type) {
    c.fail("generate of " + id + " answered with key " + key.id + " of type " + std::to_string(key.type));
    return std::nullopt;
  }
  if (key.fingerprint.empty()) {
    c.fail("the key's fingerprint is empty");
    return std::nullopt;
  }
  auto parsed = PublicKey::from_spki(as_bytes(key.spki));
  if (!parsed || !is_of_type(*parsed, type)) {
    c.fail("the key's SPKI is not one of type " + std::to_string(type));
    return std::nullopt;
  }
  return std::move(*parsed);
}

void types(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::string known;
  for (const uint32_t type : kTypes) {
    const std::string id = "type-" + std::to_string(type);
    const Op& op = generate(*s, id, type, {.deadline_ms = kGenerateMs});
    if (!c.answered(*s, op, "generate", kGenerateMs)) return;
    if (op.ok()) {
      if (!key_of(c, op, id, type)) return;
      known += (known.empty() ? "" : ", ") + std::string(key_type_name(static_cast<KeyType>(type)));
    } else if (op.code != LIMPET_UNIMPLEMENTED && op.code != LIMPET_INVALID_ARGUMENT) {
      return c.fail("generate of " + id + " gave " + op.outcome() + "; a type it does not know is Unimplemented");
    }
  }
  if (known.empty()) return c.fail("no type of key is known");
  c.note(known);
  for (const uint32_t type : {0u, 5u, 99u, UINT32_MAX}) {
    const Op& op = generate(*s, "odd", type);
    if (!c.answered(*s, op, "generate")) return;
    if (op.ok()) return c.fail("a key of type " + std::to_string(type) + " was made; no such type is known");
  }
  c.destroyed(*s);
}

// One signature checked against the key; false after fail().
bool verifies(Check& c, Subject& s, const Key& id, const PublicKey& key, HashAlg alg, bool pss) {
  const Bytes digest = hash(alg, as_bytes("plugin-check signs this"));
  const int32_t salt = pss ? static_cast<int32_t>(digest.size()) : -1;
  const Op& op = sign(s, {id.id, static_cast<uint32_t>(alg), std::string(as_text(digest)), salt});
  const std::string what =
      "sign with " + id.id + ", hash " + std::to_string(static_cast<uint32_t>(alg)) + (pss ? ", PSS" : "");
  if (!c.answered(s, op, what.c_str(), 60'000)) return false;
  if (!op.ok()) {
    // a token need not know every hash, but must know the one that certificates are signed with
    if (!pss && alg == hash_for(static_cast<KeyType>(id.type))) c.fail(what + " gave " + op.outcome());
    return !c.failed();
  }
  const Result<void> good =
      pss ? verify_pss(key, digest, as_bytes(op.bytes), alg) : key.verify(alg, digest, as_bytes(op.bytes));
  if (!good) c.fail(what + ": the signature does not verify with the key that generate returned");
  if (op.fingerprint != id.fingerprint) c.fail(what + ": the fingerprint is not the key's");
  return !c.failed();
}

void signatures(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (const uint32_t type : kTypes) {
    const std::string id = "sign-" + std::to_string(type);
    const Op& made = generate(*s, id, type, {.deadline_ms = kGenerateMs});
    if (!c.answered(*s, made, "generate", kGenerateMs)) return;
    if (!made.ok()) continue;
    const auto key = key_of(c, made, id, type);
    if (!key) return;
    for (const HashAlg alg : {HashAlg::sha256, HashAlg::sha384, HashAlg::sha512}) {
      if (!verifies(c, *s, made.keys[0], *key, alg, false)) return;
      if (key->is_rsa() && !verifies(c, *s, made.keys[0], *key, alg, true)) return;
    }
  }
  c.destroyed(*s);
}

void fingerprint(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& first = generate(*s, "again", LIMPET_KEY_EC_P256, {.deadline_ms = kGenerateMs});
  if (!c.succeeded(*s, first, "generate", kGenerateMs)) return;
  const Op& second = generate(*s, "again", LIMPET_KEY_EC_P256, {.deadline_ms = kGenerateMs});
  if (!c.succeeded(*s, second, "generate of the same id", kGenerateMs)) return;
  if (first.keys.empty() || second.keys.empty()) return c.fail("generate answered without a key");
  if (first.keys[0].spki == second.keys[0].spki)
    return c.fail("the same id got the same key: generate makes a new one");
  if (first.keys[0].fingerprint == second.keys[0].fingerprint)
    return c.fail("the fingerprint did not change with the key: the host would not notice");
  c.destroyed(*s);
}

void unknown_key(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const std::string digest(32, 'd');
  const Op& op = sign(*s, {"plugin-check-never-made-this", LIMPET_HASH_SHA256, digest});
  if (!c.answered(*s, op, "sign")) return;
  if (op.code != LIMPET_NOT_FOUND)
    return c.fail("sign with an unknown key gave " + op.outcome() + " instead of NotFound");
  c.destroyed(*s);
}

void listed(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& made = generate(*s, "listed", LIMPET_KEY_EC_P256, {.deadline_ms = kGenerateMs});
  if (!c.succeeded(*s, made, "generate", kGenerateMs)) return;
  const Op& all = list(*s);
  if (!c.succeeded(*s, all, "list")) return;
  const auto place = std::ranges::find(all.keys, "listed", &Key::id);
  if (place == all.keys.end()) return c.fail("list does not have a key that was made");
  if (made.keys.empty() || place->fingerprint != made.keys[0].fingerprint || place->spki != made.keys[0].spki)
    return c.fail("list has another key under the id of one that was made");
  if (std::ranges::count(all.keys, "listed", &Key::id) != 1) return c.fail("list has a key twice");
  c.destroyed(*s);
}

void bad_digest(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& made = generate(*s, "digest", LIMPET_KEY_EC_P256, {.deadline_ms = kGenerateMs});
  if (!c.succeeded(*s, made, "generate", kGenerateMs)) return;
  for (const size_t size : {0ul, 1ul, 31ul, 33ul, 1000ul}) {
    const Op& op = sign(*s, {"digest", LIMPET_HASH_SHA256, std::string(size, 'd')});
    if (!c.answered(*s, op, "sign")) return;
    if (op.ok()) return c.fail("a SHA-256 digest of " + std::to_string(size) + " bytes was signed");
  }
  const Op& odd = sign(*s, {"digest", 77, std::string(32, 'd')});
  if (!c.answered(*s, odd, "sign")) return;
  if (odd.ok()) return c.fail("a digest of the unknown hash 77 was signed");
  c.destroyed(*s);
}

void removed(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (!has_remove(*s)) return c.skip("the component has no remove");
  const Op& made = generate(*s, "removed", LIMPET_KEY_EC_P256, {.deadline_ms = kGenerateMs});
  if (!c.succeeded(*s, made, "generate", kGenerateMs)) return;
  const Op& gone = check::remove(*s, "removed");
  if (!c.succeeded(*s, gone, "remove")) return;
  const Op& after = sign(*s, {"removed", LIMPET_HASH_SHA256, std::string(32, 'd')});
  if (!c.answered(*s, after, "sign")) return;
  if (after.code != LIMPET_NOT_FOUND) return c.fail("sign with a removed key gave " + after.outcome());
  c.destroyed(*s);
}

void restarted(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& made = generate(*s, "kept", LIMPET_KEY_EC_P256, {.deadline_ms = kGenerateMs});
  if (!c.succeeded(*s, made, "generate", kGenerateMs) || !c.destroyed(*s)) return;
  Subject* next = c.ready();
  if (next == nullptr) return;
  const Op& all = list(*next);
  if (!c.succeeded(*next, all, "list")) return;
  const auto place = std::ranges::find(all.keys, "kept", &Key::id);
  if (place == all.keys.end()) return c.note("keys are not kept over a restart");
  if (made.keys.empty() || place->spki != made.keys[0].spki || place->fingerprint != made.keys[0].fingerprint)
    return c.fail("after a restart the id has another key or fingerprint");
  const auto key = PublicKey::from_spki(as_bytes(place->spki));
  if (!key) return c.fail("after a restart the key's SPKI cannot be read");
  if (!verifies(c, *next, *place, *key, HashAlg::sha256, false)) return;
  c.note("keys are kept over a restart");
  c.destroyed(*next);
}

}  // namespace

std::span<const TestCase> key_manager_tests() {
  static constexpr uint32_t kKinds = of_kind(Kind::key_manager);
  static const TestCase kTests[] = {
      {"key_manager.types",
       "each type of key is made, or refused as unknown",
       types,
       {"op.answers"},
       kKinds,
       false,
       false,
       true},
      {"key_manager.signatures",
       "signatures verify with the key that generate returned",
       signatures,
       {"key_manager.types"},
       kKinds,
       false,
       false,
       true},
      {"key_manager.fingerprint",
       "a new key under an id has a new fingerprint",
       fingerprint,
       {"key_manager.types"},
       kKinds,
       false,
       false,
       true},
      {"key_manager.unknown_key",
       "an unknown key is NotFound",
       unknown_key,
       {"op.answers"},
       kKinds,
       false,
       false,
       true},
      {"key_manager.list", "list has what was made", listed, {"key_manager.types"}, kKinds, false, false, true},
      {"key_manager.bad_digest",
       "a digest of the wrong length is not signed",
       bad_digest,
       {"key_manager.types"},
       kKinds,
       false,
       false,
       true},
      {"key_manager.remove", "a removed key is NotFound", removed, {"key_manager.types"}, kKinds, false, false, true},
      {"key_manager.restart",
       "a key that is kept is the same after a restart",
       restarted,
       {"key_manager.types"},
       kKinds,
       false,
       false,
       true},
  };
  return kTests;
}

}  // namespace limpet::check
