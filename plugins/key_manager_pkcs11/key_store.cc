// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/key_store.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "key_manager_pkcs11/ck.h"
#include "key_manager_pkcs11/key_encoding.h"
#include "kit/key_table.h"
#include "kit/kit.h"

namespace limpet::pkcs11 {
namespace {

constexpr size_t kNumberBytes = 8;
constexpr size_t kObjectIdBytes = 16;
constexpr size_t kSha256Bytes = 32;
constexpr CK_ULONG kMaxSignatureBytes = 1024;
constexpr uint8_t kExponent[] = {1, 0, 1};

Bytes object_id(uint64_t number) {
  Bytes out(kObjectIdBytes);
  for (size_t i = 0; i < kNumberBytes; ++i) out[i] = static_cast<uint8_t>(number >> (8 * (kNumberBytes - 1 - i)));
  random_bytes(out.data() + kNumberBytes, kObjectIdBytes - kNumberBytes);
  return out;
}

// 0: not one of ours; an operator brought the key.
uint64_t number_of(const Bytes& id) {
  uint64_t number = 0;
  if (id.size() != kObjectIdBytes) return 0;
  for (size_t i = 0; i < kNumberBytes; ++i) number = number << 8 | id[i];
  return number;
}

CK_MECHANISM_TYPE hash_mechanism(HashAlg alg) {
  return alg == HashAlg::sha256 ? CKM_SHA256 : alg == HashAlg::sha384 ? CKM_SHA384 : CKM_SHA512;
}
CK_ULONG mask_function(HashAlg alg) {
  return alg == HashAlg::sha256 ? CKG_MGF1_SHA256 : alg == HashAlg::sha384 ? CKG_MGF1_SHA384 : CKG_MGF1_SHA512;
}

Result<Bytes> sign_raw(Session& session, CK_OBJECT_HANDLE key, CK_MECHANISM mechanism, BytesView data) {
  TRY(session.check("C_SignInit", session.calls.C_SignInit(session.handle, &mechanism, key)));
  Bytes input = to_bytes(data);
  Bytes out(kMaxSignatureBytes);
  CK_ULONG size = kMaxSignatureBytes;
  TRY(session.check("C_Sign", session.calls.C_Sign(session.handle, input.data(), input.size(), out.data(), &size)));
  if (size > kMaxSignatureBytes) return fail(Code::internal, "the token's signature is longer than its buffer");
  out.resize(size);
  return out;
}

Result<Bytes> sign_with(Session& session, const TokenKey& key, const SignWish& wish) {
  if (!key.key.is_rsa()) {
    if (wish.pss_salt_len >= 0) return fail(Code::invalid_argument, "PSS is for RSA keys; this one is not");
    TRY_ASSIGN(const Bytes raw,
               sign_raw(session, key.handle, {CKM_ECDSA, nullptr, 0}, shorten_digest(key.type, wish.digest)));
    return ecdsa_signature(raw);
  }
  if (wish.pss_salt_len < 0)
    return sign_raw(session, key.handle, {CKM_RSA_PKCS, nullptr, 0}, digest_info(wish.alg, wish.digest));
  CK_RSA_PKCS_PSS_PARAMS pss = {};
  pss.hash_alg = hash_mechanism(wish.alg);
  pss.mgf = mask_function(wish.alg);
  pss.s_len = static_cast<CK_ULONG>(wish.pss_salt_len);
  return sign_raw(session, key.handle, {CKM_RSA_PKCS_PSS, &pss, sizeof pss}, wish.digest);
}

Result<PublicKey> shown_by(Session& session, CK_OBJECT_HANDLE object) {
  TRY_ASSIGN(const std::optional<Bytes> modulus, read_attribute(session, object, CKA_MODULUS));
  if (modulus) {
    TRY_ASSIGN(const std::optional<Bytes> exponent, read_attribute(session, object, CKA_PUBLIC_EXPONENT));
    return rsa_public_key(*modulus, exponent.value_or(Bytes()));
  }
  TRY_ASSIGN(const std::optional<Bytes> point, read_attribute(session, object, CKA_EC_POINT));
  TRY_ASSIGN(const std::optional<Bytes> params, read_attribute(session, object, CKA_EC_PARAMS));
  if (!point || !params) return fail(Code::internal, "the token shows no public key for it");
  return ec_public_key(*params, *point);
}

// Public objects of this CKA_ID, and of this label where there is one. Without an id there are none.
Result<std::vector<CK_OBJECT_HANDLE>> find_public(Session& session, const Bytes& id, const std::string& label) {
  if (id.empty()) return std::vector<CK_OBJECT_HANDLE>();
  Template wanted;
  wanted.number(CKA_CLASS, CKO_PUBLIC_KEY).bytes(CKA_ID, id);
  if (!label.empty()) wanted.bytes(CKA_LABEL, as_bytes(label));
  return find_objects(session, wanted);
}

// Whether an error is our own word on what the token shows, and will be so tomorrow. What the token's calls say may
// pass, and is no reason to take a key for one that is not there: it would be replaced, and the old one destroyed.
bool is_verdict(const Error& error) { return error.code == Code::internal; }

// Asked first: some tokens answer a signature of another type as if the device were broken.
Result<bool> is_of_type(Session& session, CK_OBJECT_HANDLE key, CK_KEY_TYPE type) {
  TRY_ASSIGN(const std::optional<Bytes> shown, read_attribute(session, key, CKA_KEY_TYPE));
  CK_KEY_TYPE found = type;
  if (shown && shown->size() == sizeof found) std::memcpy(&found, shown->data(), sizeof found);
  return found == type;
}

// Whether this is the public half of the private key. What is signed is no digest of anything. An error: the token did
// not sign, which tells nothing of the two, unless they are of different types.
Result<bool> belongs(Session& session, CK_OBJECT_HANDLE private_key, const PublicKey& key) {
  const auto type = type_of(key);
  if (!type) return false;
  TRY_ASSIGN(const bool alike, is_of_type(session, private_key, key.is_rsa() ? CKK_RSA : CKK_EC));
  if (!alike) return false;
  const SignWish wish = {{}, HashAlg::sha256, random_bytes(kSha256Bytes), -1};
  const auto signature = sign_with(session, {key, *type, {}, private_key}, wish);
  if (signature) return key.verify(wish.alg, wish.digest, *signature).has_value();
  if (is_verdict(signature.error()) || session.last == CKR_KEY_TYPE_INCONSISTENT) return false;
  return fail(signature.error());
}

Error unknown(const std::string& id) { return {Code::not_found, "no such key \"" + id + "\""}; }

}  // namespace

Result<KeyStore::Pairs> KeyStore::find_pairs(Session& session) {
  Pairs pairs;
  Template wanted;
  wanted.number(CKA_CLASS, CKO_PRIVATE_KEY).flag(CKA_TOKEN, true);
  TRY_ASSIGN(const std::vector<CK_OBJECT_HANDLE> found, find_objects(session, wanted));
  for (const CK_OBJECT_HANDLE object : found) {
    TRY_ASSIGN(const std::optional<Bytes> label, read_attribute(session, object, CKA_LABEL));
    if (!label) continue;
    const std::string_view id = id_in_label(name_space_, as_text(*label));
    if (id.empty() || id.size() > kit::kMaxKeyIdBytes || !is_utf8(id)) continue;
    TRY_ASSIGN(const std::optional<Bytes> object_id, read_attribute(session, object, CKA_ID));
    Pair pair;
    pair.private_key = object;
    pair.label = std::string(as_text(*label));
    pair.object_id = object_id.value_or(Bytes());
    pair.number = number_of(pair.object_id);
    pairs.emplace(std::string(id), std::move(pair));
    if (pairs.size() > 2 * kit::kMaxKeys)
      return fail(Code::resource_exhausted, "more than 2,000 keys of namespace \"" + name_space_ + "\"; remove some");
  }
  return pairs;
}

// The one in use, which has the lowest number, comes last: if it cannot be destroyed, nothing has changed.
std::vector<KeyStore::Pair> KeyStore::newest_first(const Pairs& pairs, const std::string& id) {
  std::vector<Pair> out;
  const auto [first, last] = pairs.equal_range(id);
  for (auto at = first; at != last; ++at) out.push_back(at->second);
  std::sort(out.rbegin(), out.rend());
  return out;
}

// From the public object of the same CKA_ID and label. An id alone may be another application's, too: so without such
// an object from what the private one shows, and last from one of the same id that verifies what the private key signs.
Result<PublicKey> KeyStore::read_public(Session& session, const Pair& pair) {
  TRY_ASSIGN(const auto ours, find_public(session, pair.object_id, pair.label));
  if (!ours.empty()) return shown_by(session, ours[0]);
  auto key = shown_by(session, pair.private_key);
  if (key || !is_verdict(key.error())) return key;
  TRY_ASSIGN(const auto others, find_public(session, pair.object_id, {}));
  for (const CK_OBJECT_HANDLE other : others) {
    auto candidate = shown_by(session, other);
    if (!candidate && !is_verdict(candidate.error())) return candidate;
    if (!candidate) continue;
    TRY_ASSIGN(const bool ours_too, belongs(session, pair.private_key, *candidate));
    if (ours_too) return candidate;
  }
  return key;
}

Result<void> KeyStore::read(Session& session) {
  TRY_ASSIGN(const auto pairs, find_pairs(session));
  keys_.clear();
  generation_ = 0;
  for (auto at = pairs.begin(); at != pairs.end(); at = pairs.upper_bound(at->first)) {
    const auto [first, last] = pairs.equal_range(at->first);
    const auto& pair =
        std::min_element(first, last, [](const auto& a, const auto& b) { return a.second < b.second; })->second;
    TokenKey key;
    auto shown = read_public(session, pair);
    auto type = shown ? type_of(*shown) : fail(shown.error());
    if (!type && !is_verdict(type.error())) return fail(Error(type.error()).within("key \"" + at->first + "\""));
    if (!type) {
      kit::log(host_, 2, "key \"" + at->first + "\" is left out: " + type.error().message);
      continue;
    }
    key.key = std::move(*shown);
    key.type = *type;
    key.fingerprint = hex_encode(sha256(key.key.spki()));
    key.handle = pair.private_key;
    keys_.emplace(at->first, std::move(key));
  }
  generation_ = token_.generation();
  return {};
}

Result<KeyStore::Keys> KeyStore::list() {
  return token_.with_session([&](Session& session) -> Result<Keys> {
    TRY(read(session));
    return keys_;
  });
}

Result<TokenKey> KeyStore::make_pair(Session& session, const std::string& id, KeyType type, Pair& pair) {
  pair.label = key_label(name_space_, id);
  pair.object_id = object_id(pair.number);
  Template open;
  open.flag(CKA_TOKEN, true).flag(CKA_PRIVATE, false).flag(CKA_VERIFY, true);
  open.bytes(CKA_LABEL, as_bytes(pair.label)).bytes(CKA_ID, pair.object_id);
  Template closed;
  closed.flag(CKA_TOKEN, true).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true).flag(CKA_EXTRACTABLE, false);
  closed.flag(CKA_SIGN, true).bytes(CKA_LABEL, as_bytes(pair.label)).bytes(CKA_ID, pair.object_id);
  const bool rsa = type == KeyType::rsa_2048 || type == KeyType::rsa_4096;
  const Bytes curve = rsa ? Bytes() : curve_of(type);
  if (rsa)
    open.number(CKA_MODULUS_BITS, type == KeyType::rsa_2048 ? 2048 : 4096).bytes(CKA_PUBLIC_EXPONENT, kExponent);
  else
    open.bytes(CKA_EC_PARAMS, curve);
  CK_MECHANISM mechanism = {rsa ? CKM_RSA_PKCS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN, nullptr, 0};
  CK_OBJECT_HANDLE public_key = 0;
  TRY(session.check("C_GenerateKeyPair",
                    session.calls.C_GenerateKeyPair(session.handle, &mechanism, open.data(), open.size(), closed.data(),
                                                    closed.size(), &public_key, &pair.private_key)));
  TokenKey made;
  auto shown = read_public(session, pair);
  if (!shown) {
    (void)destroy_pair(session, pair);
    return fail(std::move(shown).error());
  }
  made.key = std::move(*shown);
  made.type = type;
  made.fingerprint = hex_encode(sha256(made.key.spki()));
  made.handle = pair.private_key;
  return made;
}

// The private key first: what is left of a pair without it is never found again, and hurts nobody. A public object of
// another label stays: it may be another application's.
Result<void> KeyStore::destroy_pair(Session& session, const Pair& pair) {
  TRY(destroy_object(session, pair.private_key));
  const auto destroy_public = [&]() -> Result<void> {
    TRY_ASSIGN(const auto found, find_public(session, pair.object_id, pair.label));
    for (const CK_OBJECT_HANDLE object : found) TRY(destroy_object(session, object));
    return {};
  };
  if (const auto gone = destroy_public(); !gone)
    kit::log(host_, 2,
             "a public key without its private one stays in the token, CKA_ID " + hex_encode(pair.object_id) + ": " +
                 gone.error().message);
  return {};
}

Result<TokenKey> KeyStore::generate(const std::string& id, KeyType type) {
  if (id.empty() || id.size() > kit::kMaxKeyIdBytes || !is_utf8(id))
    return fail(Code::invalid_argument, "a key id has 1 to 255 bytes of UTF-8");
  return token_.with_session([&](Session& session) -> Result<TokenKey> {
    keys_.clear();  // read again by whoever needs them, whatever happens below
    generation_ = 0;
    TRY_ASSIGN(const auto pairs, find_pairs(session));
    if (pairs.size() >= kit::kMaxKeys && !pairs.contains(id))
      return fail(Code::resource_exhausted, "the namespace holds 1,000 keys already; remove some");
    const std::vector<Pair> old = newest_first(pairs, id);
    Pair pair;
    pair.number = old.empty() ? 1 : old.front().number + 1;
    TRY_ASSIGN_WITHIN("generate " + id, TokenKey made, make_pair(session, id, type, pair));
    for (const Pair& one : old) {
      auto gone = destroy_pair(session, one);
      if (gone) continue;
      (void)destroy_pair(session, pair);
      return fail(std::move(gone).error().within("destroy the old key " + id));
    }
    return made;
  });
}

Result<Bytes> KeyStore::sign(const SignWish& wish, std::string& fingerprint) {
  return token_.with_session([&](Session& session) -> Result<Bytes> {
    const bool known = generation_ == token_.generation();
    if (!known || !keys_.contains(wish.id)) TRY(read(session));
    const auto place = keys_.find(wish.id);
    if (place == keys_.end()) return fail(unknown(wish.id));
    fingerprint = place->second.fingerprint;
    return sign_with(session, place->second, wish);
  });
}

Result<void> KeyStore::remove(const std::string& id) {
  return token_.with_session([&](Session& session) -> Result<void> {
    keys_.clear();
    generation_ = 0;
    TRY_ASSIGN(const auto pairs, find_pairs(session));
    const std::vector<Pair> all = newest_first(pairs, id);
    if (all.empty()) return fail(unknown(id));
    for (const Pair& one : all) TRY(destroy_pair(session, one));
    return {};
  });
}

}  // namespace limpet::pkcs11
