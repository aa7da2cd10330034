// SPDX-License-Identifier: Apache-2.0
#include "crypto/jws_sign.h"

#include "crypto/der.h"

namespace limpet {
namespace {

Result<void> append_padded(Bytes& out, BytesView number, size_t size) {
  if (number.size() > size) return fail(Code::invalid_argument, "ECDSA signature is longer than its curve");
  out.insert(out.end(), size - number.size(), 0);
  append(out, number);
  return {};
}

Result<Bytes> raw_ecdsa(BytesView signature, size_t size) {
  TRY_ASSIGN(const der::Element pair, der::single(signature, der::kSequence));
  der::Reader reader(pair.content);
  Bytes out;
  for (int i = 0; i < 2; ++i) {
    TRY_ASSIGN(const der::Element number, reader.expect(der::kInteger));
    TRY_ASSIGN(const Bytes value, der::read_unsigned(number.content));
    TRY(append_padded(out, value, size));
  }
  TRY(reader.end());
  return out;
}

}  // namespace

std::string_view jws_algorithm(KeyType type) {
  if (type == KeyType::ec_p256) return "ES256";
  if (type == KeyType::ec_p384) return "ES384";
  return "RS256";
}

std::string jws_signing_input(std::string_view header_json, std::string_view payload_json) {
  return base64url_encode(as_bytes(header_json)) + "." + base64url_encode(as_bytes(payload_json));
}

Result<std::string> jws_seal(std::string signing_input, KeyType type, BytesView signature) {
  Bytes raw = to_bytes(signature);
  if (type == KeyType::ec_p256 || type == KeyType::ec_p384) {
    TRY_ASSIGN(raw, raw_ecdsa(signature, type == KeyType::ec_p256 ? 32 : 48));
  }
  return std::move(signing_input) + "." + base64url_encode(raw);
}

}  // namespace limpet
