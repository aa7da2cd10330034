// SPDX-License-Identifier: Apache-2.0
#include "server/jwt_claims.h"

#include <yyjson.h>

#include <cstdlib>
#include <memory>

#include "crypto/jws_sign.h"

namespace limpet::server {
namespace {

struct FreeDocument {
  void operator()(yyjson_mut_doc* document) const { yyjson_mut_doc_free(document); }
};
using Document = std::unique_ptr<yyjson_mut_doc, FreeDocument>;

Document make_document() {
  Document document(yyjson_mut_doc_new(nullptr));
  yyjson_mut_doc_set_root(document.get(), yyjson_mut_obj(document.get()));
  return document;
}

void add(const Document& document, const char* name, std::string_view text) {
  yyjson_mut_obj_add_strncpy(document.get(), yyjson_mut_doc_get_root(document.get()), name, text.data(), text.size());
}
void add(const Document& document, const char* name, int64_t number) {
  yyjson_mut_obj_add_sint(document.get(), yyjson_mut_doc_get_root(document.get()), name, number);
}

std::string written(const Document& document) {
  size_t size = 0;
  char* text = yyjson_mut_write(document.get(), YYJSON_WRITE_NOFLAG, &size);
  std::string out = text != nullptr ? std::string(text, size) : "{}";
  std::free(text);
  return out;
}

}  // namespace

std::string jwt_header_json(KeyType type, std::string_view key_id) {
  const Document document = make_document();
  add(document, "alg", jws_algorithm(type));
  add(document, "kid", key_id);
  add(document, "typ", "JWT");
  return written(document);
}

std::string jwt_claims_json(const JwtClaims& claims) {
  const Document document = make_document();
  yyjson_mut_val* audience = yyjson_mut_obj_add_arr(document.get(), yyjson_mut_doc_get_root(document.get()), "aud");
  for (const std::string& one : claims.audience) {
    if (!one.empty()) yyjson_mut_arr_add_strncpy(document.get(), audience, one.data(), one.size());
  }
  add(document, "exp", claims.expires_at);
  add(document, "iat", claims.issued_at);
  if (!claims.issuer.empty()) add(document, "iss", claims.issuer);
  if (!claims.token_id.empty()) add(document, "jti", claims.token_id);
  add(document, "sub", claims.id.text());
  return written(document);
}

}  // namespace limpet::server
