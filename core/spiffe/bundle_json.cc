// SPDX-License-Identifier: Apache-2.0
#include <yyjson.h>

#include <algorithm>
#include <memory>

#include "base/limits.h"
#include "crypto/jwk.h"
#include "spiffe/bundle.h"

namespace limpet {

namespace {

struct DocFree {
  void operator()(yyjson_doc* doc) const { yyjson_doc_free(doc); }
  void operator()(yyjson_mut_doc* doc) const { yyjson_mut_doc_free(doc); }
  void operator()(char* text) const { free(text); }
};

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// ---- writing ----

// An absent member is left out; the document copies the text.
void put(yyjson_mut_doc* doc, yyjson_mut_val* object, const char* name, const std::string& value) {
  if (!value.empty()) yyjson_mut_obj_add_strncpy(doc, object, name, value.data(), value.size());
}

// The order of members is that of the JOSE library SPIRE uses.
yyjson_mut_val* add_key(yyjson_mut_doc* doc, yyjson_mut_val* keys, const char* use, const std::string& kid,
                        const PublicKey& key) {
  yyjson_mut_val* object = yyjson_mut_arr_add_obj(doc, keys);
  const JwkMembers members = jwk_members(key);
  put(doc, object, "use", use);
  put(doc, object, "kty", members.kty);
  put(doc, object, "kid", kid);
  put(doc, object, "crv", members.crv);
  put(doc, object, "x", members.x);
  put(doc, object, "y", members.y);
  put(doc, object, "n", members.n);
  put(doc, object, "e", members.e);
  return object;
}

std::string written(yyjson_mut_doc* doc) {
  size_t size = 0;
  const std::unique_ptr<char, DocFree> text(yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, &size));
  return text == nullptr ? std::string() : std::string(text.get(), size);
}

// ---- reading ----

Result<std::string> text_member(yyjson_val* object, const char* name) {
  yyjson_val* value = yyjson_obj_get(object, name);
  if (value == nullptr) return std::string();
  if (!yyjson_is_str(value)) return invalid(std::string("member \"") + name + "\" is not a string");
  return std::string(yyjson_get_str(value), yyjson_get_len(value));
}

Result<uint64_t> number_member(yyjson_val* object, const char* name) {
  yyjson_val* value = yyjson_obj_get(object, name);
  if (value == nullptr || yyjson_is_null(value)) return uint64_t{0};
  if (!yyjson_is_uint(value)) return invalid(std::string("member \"") + name + "\" is not a non-negative integer");
  return yyjson_get_uint(value);
}

Result<JwkMembers> read_members(yyjson_val* object) {
  JwkMembers out;
  TRY_ASSIGN(out.kty, text_member(object, "kty"));
  TRY_ASSIGN(out.crv, text_member(object, "crv"));
  TRY_ASSIGN(out.x, text_member(object, "x"));
  TRY_ASSIGN(out.y, text_member(object, "y"));
  TRY_ASSIGN(out.n, text_member(object, "n"));
  TRY_ASSIGN(out.e, text_member(object, "e"));
  return out;
}

Result<Certificate> read_x5c(yyjson_val* object) {
  yyjson_val* x5c = yyjson_obj_get(object, "x5c");
  const size_t count = yyjson_is_arr(x5c) ? yyjson_arr_size(x5c) : 0;
  if (count != 1) return invalid("expected a single certificate in x5c; got " + std::to_string(count));
  yyjson_val* text = yyjson_arr_get_first(x5c);
  if (!yyjson_is_str(text)) return invalid("x5c does not hold a string");
  TRY_ASSIGN_WITHIN("x5c", const Bytes der, base64_decode({yyjson_get_str(text), yyjson_get_len(text)}));
  return Certificate::parse(der);
}

Result<void> read_key(Bundle& bundle, yyjson_val* object) {
  if (!yyjson_is_obj(object)) return invalid("not an object");
  TRY_ASSIGN(const std::string use, text_member(object, "use"));
  const bool x509 = use == "x509-svid";
  if (!x509 && use != "jwt-svid") return {};  // the standard: unknown uses are ignored
  if (yyjson_obj_get(object, "d") != nullptr)
    return invalid("holds a private key; a bundle must carry public keys only");
  TRY_ASSIGN(const JwkMembers members, read_members(object));
  const Result<PublicKey> key = public_key_from_jwk(members);
  if (!key && key.error().code == Code::unimplemented) return {};  // RFC 7517 5: key types not understood are ignored
  if (!key) return fail(key.error());
  if (x509) {
    TRY_ASSIGN(const Certificate certificate, read_x5c(object));
    if (certificate.key != *key) return invalid("the key and the certificate in x5c do not match");
    bundle.x509_authorities.push_back({certificate.der, false});
    return {};
  }
  TRY_ASSIGN(std::string kid, text_member(object, "kid"));
  if (kid.empty()) return invalid("keyID cannot be empty");
  for (const JwtAuthority& other : bundle.jwt_authorities)
    if (other.key_id == kid) return invalid("key ID \"" + kid + "\" stands there twice");
  bundle.jwt_authorities.push_back({std::move(kid), key->spki(), 0, false});
  return {};
}

Result<void> read_document(Bundle& bundle, yyjson_val* root) {
  if (!yyjson_is_obj(root)) return invalid("not a JSON object");
  yyjson_val* keys = yyjson_obj_get(root, "keys");
  if (!yyjson_is_arr(keys)) return invalid("no authorities found: \"keys\" is missing or not an array");
  if (yyjson_arr_size(keys) > limits::kBundleKeys) return invalid("more than 2000 keys");
  TRY_ASSIGN(bundle.sequence_number, number_member(root, "spiffe_sequence"));
  TRY_ASSIGN(const uint64_t hint, number_member(root, "spiffe_refresh_hint"));
  if (hint > INT32_MAX) return invalid("member \"spiffe_refresh_hint\" is too large");
  bundle.refresh_hint = static_cast<int64_t>(hint);
  size_t index = 0;
  size_t max = 0;
  yyjson_val* key = nullptr;
  yyjson_arr_foreach(keys, index, max, key) TRY_WITHIN("key " + std::to_string(index), read_key(bundle, key));
  return {};
}

}  // namespace

std::string bundle_to_json(const Bundle& bundle) {
  const std::unique_ptr<yyjson_mut_doc, DocFree> doc(yyjson_mut_doc_new(nullptr));
  yyjson_mut_val* root = yyjson_mut_obj(doc.get());
  yyjson_mut_doc_set_root(doc.get(), root);
  yyjson_mut_val* keys = yyjson_mut_obj_add_arr(doc.get(), root, "keys");
  for (const X509Authority& authority : bundle.x509_authorities) {
    const Result<Certificate> certificate = Certificate::parse(authority.der);
    if (!certificate) continue;  // cannot be: authorities are parsed when they are accepted
    yyjson_mut_val* object = add_key(doc.get(), keys, "x509-svid", "", certificate->key);
    const std::string text = base64_encode(authority.der);
    yyjson_mut_arr_add_strncpy(doc.get(), yyjson_mut_obj_add_arr(doc.get(), object, "x5c"), text.data(), text.size());
  }
  for (const JwtAuthority& authority : bundle.jwt_authorities)
    if (const Result<PublicKey> key = PublicKey::from_spki(authority.spki))
      add_key(doc.get(), keys, "jwt-svid", authority.key_id, *key);
  if (bundle.sequence_number != 0) yyjson_mut_obj_add_uint(doc.get(), root, "spiffe_sequence", bundle.sequence_number);
  if (bundle.refresh_hint > 0) yyjson_mut_obj_add_int(doc.get(), root, "spiffe_refresh_hint", bundle.refresh_hint);
  return written(doc.get());
}

std::string bundle_to_jwks(const Bundle& bundle, const JwksMembers& members) {
  const std::unique_ptr<yyjson_mut_doc, DocFree> doc(yyjson_mut_doc_new(nullptr));
  yyjson_mut_val* root = yyjson_mut_obj(doc.get());
  yyjson_mut_doc_set_root(doc.get(), root);
  yyjson_mut_val* keys = yyjson_mut_obj_add_arr(doc.get(), root, "keys");
  std::vector<const JwtAuthority*> sorted;
  sorted.reserve(bundle.jwt_authorities.size());
  for (const JwtAuthority& authority : bundle.jwt_authorities) sorted.push_back(&authority);
  std::ranges::sort(sorted, {}, &JwtAuthority::key_id);
  for (const JwtAuthority* authority : sorted) {
    const Result<PublicKey> key = PublicKey::from_spki(authority->spki);
    if (!key) continue;  // cannot be: keys are parsed when they are accepted
    yyjson_mut_val* object = add_key(doc.get(), keys, members.use.c_str(), authority->key_id, *key);
    if (members.algorithm)
      put(doc.get(), object, "alg", key->is_rsa() ? "RS256" : key->bits() == 384 ? "ES384" : "ES256");
  }
  return written(doc.get());
}

Result<Bundle> bundle_from_json(std::string_view json, const TrustDomain& trust_domain) {
  if (json.size() > limits::kBundleJsonBytes) return invalid("bundle: larger than 1 MiB");
  const std::unique_ptr<yyjson_doc, DocFree> doc(yyjson_read(json.data(), json.size(), YYJSON_READ_NOFLAG));
  if (doc == nullptr) return invalid("bundle: unable to parse JWKS: not valid JSON");
  Bundle out;
  out.trust_domain = trust_domain;
  TRY_WITHIN("bundle", read_document(out, yyjson_doc_get_root(doc.get())));
  return out;
}

}  // namespace limpet
