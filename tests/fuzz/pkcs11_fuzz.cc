// SPDX-License-Identifier: Apache-2.0
// The plugin pkcs11: a token's name or URI from a configuration, and what a token answers as keys and signatures. The
// first byte says which.
#include "fuzz.h"
#include "key_manager_pkcs11/key_encoding.h"
#include "key_manager_pkcs11/token_uri.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  if (size == 0) return 0;
  const BytesView rest(data + 1, size - 1);
  const BytesView front = rest.first(rest.size() / 4);
  switch (data[0]) {
    case 'u':
      if (const auto uri = pkcs11::parse_token(as_text(rest))) {
        FUZZ_CHECK(uri->token != pkcs11::TokenMatch());
        FUZZ_CHECK(pkcs11::describe(uri->token).starts_with("token"));
        FUZZ_CHECK(uri->pin_file.empty() || uri->pin_file[0] == '/');
      } else {
        FUZZ_CHECK(uri.error().message.starts_with("token: "));
      }
      break;
    case 'l':
      FUZZ_CHECK(as_text(rest).ends_with(pkcs11::id_in_label("edge", as_text(rest))));
      break;
    case '2':  // a point on P-256
    case '3':  // on P-384
      if (const auto key =
              pkcs11::ec_public_key(pkcs11::curve_of(data[0] == '2' ? KeyType::ec_p256 : KeyType::ec_p384), rest))
        FUZZ_CHECK(pkcs11::type_of(*key));
      break;
    case 'e':
      (void)pkcs11::ec_public_key(front, rest.subspan(front.size()));
      break;
    case 'r':
      if (const auto key = pkcs11::rsa_public_key(rest.subspan(front.size()), front)) FUZZ_CHECK(key->is_rsa());
      break;
    case 's':
      if (const auto signature = pkcs11::ecdsa_signature(rest)) FUZZ_CHECK(signature->size() <= rest.size() + 12);
      break;
    default:
      break;
  }
  return 0;
}
