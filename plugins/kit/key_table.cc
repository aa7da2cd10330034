// SPDX-License-Identifier: Apache-2.0
// Keys in memory and the key manager answers about them.
#include "kit/key_table.h"

#include "kit/kit.h"

namespace limpet::kit {
namespace {

limpet_public_key describe(std::string_view id, const StoredKey& key) {
  return {sizeof(limpet_public_key), static_cast<uint32_t>(key.key.type()), lend(id), lend(key.key.public_key().spki()),
          lend(key.fingerprint)};
}

}  // namespace

Error unknown_key(std::string_view id) { return Error{Code::not_found, "no such key \"" + std::string(id) + "\""}; }

Result<void> check_new_key(std::string_view id, uint32_t type, bool full) {
  if (id.empty() || id.size() > kMaxKeyIdBytes || !is_utf8(id)) {
    return fail(Code::invalid_argument, "a key id has 1 to 255 bytes of UTF-8");
  }
  if (type < 1 || type > 4) return fail(Code::invalid_argument, "key type " + std::to_string(type) + " is not known");
  if (full) return fail(Code::resource_exhausted, "the key manager holds 1,000 keys already; remove some");
  return {};
}

Result<HashAlg> check_request(const limpet_sign_request& r) {
  if (r.hash < 5 || r.hash > 7)
    return fail(Code::unimplemented, "hash " + std::to_string(r.hash) + " is not supported");
  const size_t size = r.hash == 5 ? 32 : r.hash == 6 ? 48 : 64;
  if (r.digest.len != size) {
    return fail(Code::invalid_argument,
                "the digest has " + std::to_string(r.digest.len) + " bytes, its hash makes " + std::to_string(size));
  }
  return static_cast<HashAlg>(r.hash);
}

StoredKey::StoredKey(PrivateKey made)
    : key(std::move(made)), fingerprint(hex_encode(sha256(key.public_key().spki()))) {}

Result<StoredKey> KeyTable::make(std::string_view id, uint32_t type) const {
  TRY(check_new_key(id, type, keys_.size() >= kMaxKeys && !keys_.contains(id)));
  TRY_ASSIGN_WITHIN("generate " + std::string(id), PrivateKey key, PrivateKey::generate(static_cast<KeyType>(type)));
  return StoredKey(std::move(key));
}

std::optional<StoredKey> KeyTable::put(std::string_view id, StoredKey key) {
  std::optional<StoredKey> before = take(id);
  keys_.emplace(std::string(id), std::move(key));
  return before;
}

std::optional<StoredKey> KeyTable::take(std::string_view id) {
  const auto place = keys_.find(id);
  if (place == keys_.end()) return std::nullopt;
  std::optional<StoredKey> out(std::move(place->second));
  keys_.erase(place);
  return out;
}

void KeyTable::answer_key(limpet_op* op, std::string_view id, limpet_key_done done) const {
  const auto place = keys_.find(id);
  if (place == keys_.end()) {
    const Error error = unknown_key(id);
    const limpet_status status = status_of(error);
    return done(op, &status, nullptr);
  }
  const limpet_public_key key = describe(place->first, place->second);
  done(op, nullptr, &key);
}

void KeyTable::answer_list(limpet_op* op, limpet_keys_done done) const {
  std::vector<limpet_public_key> values;
  std::vector<const limpet_public_key*> pointers;
  pointers.reserve(keys_.size());
  values.reserve(keys_.size());
  for (const auto& [id, key] : keys_) values.push_back(describe(id, key));
  for (const limpet_public_key& value : values) pointers.push_back(&value);
  done(op, nullptr, pointers.data(), pointers.size());
}

void KeyTable::answer_sign(limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) const {
  const auto refuse = [&](const Error& error) {
    const limpet_status status = status_of(error);
    done(op, &status, {}, {});
  };
  const auto place = keys_.find(view(request->key_id));
  if (place == keys_.end()) return refuse(unknown_key(view(request->key_id)));
  if (request->pss_salt_len >= 0) return refuse({Code::unimplemented, "RSA-PSS signatures are not supported"});
  const auto alg = check_request(*request);
  if (!alg) return refuse(alg.error());
  const auto signature = place->second.key.sign(*alg, view(request->digest));
  if (!signature) return refuse(signature.error());
  done(op, nullptr, lend(*signature), lend(place->second.fingerprint));
}

}  // namespace limpet::kit
