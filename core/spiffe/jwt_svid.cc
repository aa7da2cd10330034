// SPDX-License-Identifier: Apache-2.0
#include "spiffe/jwt_svid.h"

#include <yyjson.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>

#include "base/limits.h"
#include "crypto/der.h"
#include "crypto/pss.h"

namespace limpet {
namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

struct FreeDocument {
  void operator()(yyjson_doc* document) const { yyjson_doc_free(document); }
};
using Document = std::unique_ptr<yyjson_doc, FreeDocument>;

// ---- JSON ----
std::string_view text_of(yyjson_val* value) { return {yyjson_get_str(value), yyjson_get_len(value)}; }

// Readers disagree on which of two members of one name counts, so none is taken.
Result<void> check_tree(yyjson_val* value, int depth) {
  if (depth > limits::kJwtDepth) return invalid("token is nested more than 16 levels deep");
  size_t index = 0;
  size_t max = 0;
  yyjson_val* name = nullptr;
  yyjson_val* child = nullptr;
  if (yyjson_is_obj(value)) {
    std::set<std::string_view> seen;
    yyjson_obj_foreach(value, index, max, name, child) {
      if (!seen.insert(text_of(name)).second)
        return invalid("token has the member \"" + std::string(text_of(name)) + "\" twice");
      TRY(check_tree(child, depth + 1));
    }
  } else if (yyjson_is_arr(value)) {
    yyjson_arr_foreach(value, index, max, child) TRY(check_tree(child, depth + 1));
  }
  return {};
}

Result<Document> read_object(std::string_view json) {
  Document document(yyjson_read(json.data(), json.size(), YYJSON_READ_NOFLAG));
  if (document == nullptr || !yyjson_is_obj(yyjson_doc_get_root(document.get())))
    return invalid("unable to parse JWT token");
  TRY(check_tree(yyjson_doc_get_root(document.get()), 1));
  return document;
}

Result<std::string> text_member(yyjson_val* object, const char* name) {
  yyjson_val* value = yyjson_obj_get(object, name);
  if (value == nullptr) return std::string();
  if (!yyjson_is_str(value)) return invalid(std::string("token member \"") + name + "\" is not a string");
  return std::string(text_of(value));
}

// A NumericDate may have a fraction.
Result<std::optional<int64_t>> time_member(yyjson_val* object, const char* name) {
  constexpr double kLatest = 253'402'300'799;  // the end of the year 9999
  yyjson_val* value = yyjson_obj_get(object, name);
  if (value == nullptr) return std::optional<int64_t>();
  const double seconds = yyjson_is_num(value) ? yyjson_get_num(value) : -1;
  if (seconds < 0 || seconds > kLatest) return invalid(std::string("token claim \"") + name + "\" is not a time");
  return std::optional(static_cast<int64_t>(seconds));
}

// ---- algorithms ----
enum class Family : uint8_t { ecdsa, rsa, pss };
struct Algorithm {
  std::string_view name;
  Family family;
  HashAlg hash;
};
constexpr Algorithm kAlgorithms[] = {
    {"ES256", Family::ecdsa, HashAlg::sha256}, {"ES384", Family::ecdsa, HashAlg::sha384},
    {"ES512", Family::ecdsa, HashAlg::sha512}, {"RS256", Family::rsa, HashAlg::sha256},
    {"RS384", Family::rsa, HashAlg::sha384},   {"RS512", Family::rsa, HashAlg::sha512},
    {"PS256", Family::pss, HashAlg::sha256},   {"PS384", Family::pss, HashAlg::sha384},
    {"PS512", Family::pss, HashAlg::sha512},
};

const Algorithm* find_algorithm(std::string_view name) {
  const auto* found = std::ranges::find(kAlgorithms, name, &Algorithm::name);
  return found == std::end(kAlgorithms) ? nullptr : found;
}

// The one curve of each ECDSA algorithm (RFC 7518 section 3.4); P-521 keys are none of ours.
uint32_t curve_bits(HashAlg hash) { return hash == HashAlg::sha256 ? 256 : hash == HashAlg::sha384 ? 384 : 521; }

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

// ---- the parts ----
Result<void> read_header(JwtSvidToken& token, yyjson_val* header) {
  TRY_ASSIGN(token.algorithm, text_member(header, "alg"));
  if (find_algorithm(token.algorithm) == nullptr)
    return invalid("unsupported token signature algorithm " + quoted(token.algorithm));
  if (yyjson_obj_get(header, "crit") != nullptr) return invalid("token has critical header parameters");
  TRY_ASSIGN(const std::string type, text_member(header, "typ"));
  if (!type.empty() && type != "JWT" && type != "JOSE") return invalid("token type " + quoted(type) + " is not JWT");
  TRY_ASSIGN(token.key_id, text_member(header, "kid"));
  if (token.key_id.empty()) return invalid("token missing key id");
  return {};
}

Result<std::vector<std::string>> read_audience(yyjson_val* claims) {
  yyjson_val* aud = yyjson_obj_get(claims, "aud");
  std::vector<std::string> out;
  if (aud == nullptr) return out;
  if (yyjson_is_str(aud)) return std::vector{std::string(text_of(aud))};
  if (!yyjson_is_arr(aud)) return invalid("token claim \"aud\" is neither a string nor an array of strings");
  size_t index = 0;
  size_t max = 0;
  yyjson_val* one = nullptr;
  yyjson_arr_foreach(aud, index, max, one) {
    if (!yyjson_is_str(one)) return invalid("token claim \"aud\" is neither a string nor an array of strings");
    out.emplace_back(text_of(one));
  }
  return out;
}

Result<void> read_claims(JwtSvidToken& token, yyjson_val* claims) {
  TRY_ASSIGN(const std::string subject, text_member(claims, "sub"));
  if (subject.empty()) return invalid("token missing subject claim");
  TRY_ASSIGN(const auto expires_at, time_member(claims, "exp"));
  if (!expires_at) return invalid("token missing exp claim");
  token.expires_at = *expires_at;
  TRY_ASSIGN_WITHIN("token has an invalid subject claim", token.id, SpiffeId::parse(subject));
  TRY_ASSIGN(const auto issued_at, time_member(claims, "iat"));
  TRY_ASSIGN(const auto not_before, time_member(claims, "nbf"));
  token.issued_at = issued_at.value_or(0);
  token.not_before = not_before.value_or(0);
  TRY_ASSIGN(token.audience, read_audience(claims));
  return {};
}

// r and s of equal length to the ASN.1 form that everything else here uses.
Result<Bytes> asn1_ecdsa(BytesView raw, uint32_t bits) {
  const size_t size = bits / 8;
  if (raw.size() != 2 * size) return invalid("token signature has the wrong length");
  return der::sequence({der::unsigned_integer(raw.first(size)), der::unsigned_integer(raw.subspan(size))});
}

}  // namespace

Result<JwtSvidToken> parse_jwt_svid(std::string_view token) {
  if (token.size() > limits::kJwtBytes) return invalid("token is larger than 32 KiB");
  const auto malformed = [] { return invalid("unable to parse JWT token"); };
  const size_t first = token.find('.');
  if (first == std::string_view::npos) return malformed();
  const size_t second = token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) return malformed();
  const auto header_json = base64url_decode(token.substr(0, first));
  const auto claims_json = base64url_decode(token.substr(first + 1, second - first - 1));
  auto signature = base64url_decode(token.substr(second + 1));
  if (!header_json || !claims_json || !signature) return malformed();

  JwtSvidToken out;
  TRY_ASSIGN(const Document header, read_object(as_text(*header_json)));
  TRY(read_header(out, yyjson_doc_get_root(header.get())));
  TRY_ASSIGN(const Document claims, read_object(as_text(*claims_json)));
  TRY(read_claims(out, yyjson_doc_get_root(claims.get())));
  out.claims_json = as_text(*claims_json);
  out.signing_input = token.substr(0, second);
  out.signature = std::move(*signature);
  return out;
}

Result<void> verify_jwt_signature(const JwtSvidToken& token, const PublicKey& key) {
  const Algorithm* algorithm = find_algorithm(token.algorithm);
  if (algorithm == nullptr) return invalid("unsupported token signature algorithm " + quoted(token.algorithm));
  const bool fits =
      algorithm->family == Family::ecdsa ? !key.is_rsa() && key.bits() == curve_bits(algorithm->hash) : key.is_rsa();
  if (!fits) return invalid("token signature algorithm " + token.algorithm + " is not that of its key");
  const Bytes digest = hash(algorithm->hash, as_bytes(token.signing_input));
  Result<void> verified;
  if (algorithm->family == Family::pss) {
    verified = verify_pss(key, digest, token.signature, algorithm->hash);
  } else if (algorithm->family == Family::rsa) {
    verified = key.verify(algorithm->hash, digest, token.signature);
  } else {
    TRY_ASSIGN(const Bytes signature, asn1_ecdsa(token.signature, key.bits()));
    verified = key.verify(algorithm->hash, digest, signature);
  }
  return verified ? verified : invalid("token signature does not match its key");
}

Result<void> check_jwt_claims(const JwtSvidToken& token, std::string_view audience, int64_t now) {
  if (std::ranges::find(token.audience, audience) == token.audience.end()) {
    std::string list;
    for (const std::string& one : token.audience) list += (list.empty() ? "" : " ") + quoted(one);
    return invalid("expected audience in [" + quoted(audience) + "] (audience=[" + list + "])");
  }
  if (token.not_before > now + kJwtLeewayS) return invalid("token is not valid yet");
  if (token.expires_at < now - kJwtLeewayS) return invalid("token has expired");
  if (token.issued_at > now + kJwtLeewayS) return invalid("token was issued in the future");
  return {};
}

}  // namespace limpet
