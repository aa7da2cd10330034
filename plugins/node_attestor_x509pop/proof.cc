// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_x509pop/proof.h"

#include "crypto/der.h"
#include "crypto/pss.h"
#include "kit/go_json.h"

namespace limpet::x509pop {
namespace {

using kit::GoJson;

constexpr size_t kMaxCertificates = 64;   // read; how many are taken is the server's max_intermediates
constexpr size_t kMaxSignatureInt = 128;  // r and s; a P-521 one has 66 bytes

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string quoted(BytesView bytes) { return "\"" + base64_encode(bytes) + "\""; }

Result<Bytes> combine(BytesView challenge, BytesView response) {
  if (challenge.size() != kNonceBytes) return invalid("invalid challenge nonce");
  if (response.size() != kNonceBytes) return invalid("invalid response nonce");
  Bytes both = to_bytes(challenge);
  append(both, response);
  return sha256(both);
}

std::string_view member_of(bool rsa) { return rsa ? "rsa_signature" : "ecdsa_signature"; }

// A signature as ASN.1 to the two numbers in it.
Result<std::pair<Bytes, Bytes>> split(BytesView signature) {
  TRY_ASSIGN(const der::Element outer, der::single(signature, der::kSequence));
  der::Reader reader(outer.content);
  TRY_ASSIGN(const der::Element r, reader.expect(der::kInteger));
  TRY_ASSIGN(const der::Element s, reader.expect(der::kInteger));
  TRY(reader.end());
  TRY_ASSIGN(Bytes r_bytes, der::read_unsigned(r.content));
  TRY_ASSIGN(Bytes s_bytes, der::read_unsigned(s.content));
  return std::pair(std::move(r_bytes), std::move(s_bytes));
}

Result<std::string> proof_members(bool rsa, const Prover& prove, BytesView digest) {
  TRY_ASSIGN(const Bytes signature, prove(digest));
  if (rsa) return ",\"signature\":" + quoted(signature);
  TRY_ASSIGN(const auto numbers, split(signature));
  return ",\"r\":" + quoted(numbers.first) + ",\"s\":" + quoted(numbers.second);
}

std::string one_of_two(bool rsa, const std::string& object) {
  return rsa ? "{\"rsa_signature\":" + object + ",\"ecdsa_signature\":null}"
             : "{\"rsa_signature\":null,\"ecdsa_signature\":" + object + "}";
}

}  // namespace

std::string encode_payload(const std::vector<Certificate>& chain) {
  std::string list;
  for (const Certificate& certificate : chain) list += (list.empty() ? "" : ",") + quoted(certificate.der);
  return "{\"certificates\":[" + list + "]}";
}

Result<std::vector<Bytes>> decode_payload(BytesView json) {
  TRY_ASSIGN(const GoJson document, GoJson::parse(json));
  return GoJson::bytes_list(document.root(), "certificates", kMaxCertificates);
}

std::string encode_challenge(const PublicKey& key, BytesView nonce) {
  return one_of_two(key.is_rsa(), "{\"nonce\":" + quoted(nonce) + "}");
}

Prover prover_of(const PrivateKey& key) {
  return [&key](BytesView digest) {
    return key.public_key().is_rsa() ? sign_pss(key, digest) : key.sign(HashAlg::sha256, digest);
  };
}

Result<std::string> answer_challenge(const PublicKey& key, const Prover& prove, BytesView challenge_json) {
  const bool rsa = key.is_rsa();
  TRY_ASSIGN_WITHIN("unable to unmarshal challenge", const GoJson document, GoJson::parse(challenge_json));
  TRY_ASSIGN_WITHIN("unable to unmarshal challenge", yyjson_val * ours,
                    GoJson::object(document.root(), member_of(rsa)));
  if (ours == nullptr)
    return invalid(std::string("failed to calculate challenge response: expecting ") + (rsa ? "RSA" : "ECDSA") +
                   " challenge");
  TRY_ASSIGN_WITHIN("unable to unmarshal challenge", const Bytes theirs, GoJson::bytes(ours, "nonce"));
  const Bytes nonce = random_bytes(kNonceBytes);
  TRY_ASSIGN_WITHIN("failed to calculate challenge response", const Bytes digest, combine(theirs, nonce));
  TRY_ASSIGN_WITHIN("failed to calculate challenge response", const std::string proof,
                    proof_members(rsa, prove, digest));
  return one_of_two(rsa, "{\"nonce\":" + quoted(nonce) + proof + "}");
}

Result<Answer> decode_answer(BytesView json, bool rsa) {
  TRY_ASSIGN(const GoJson document, GoJson::parse(json));
  Answer out;
  TRY_ASSIGN(yyjson_val * first, GoJson::object(document.root(), member_of(true)));
  TRY_ASSIGN(yyjson_val * second, GoJson::object(document.root(), member_of(false)));
  out.rsa = first != nullptr;
  out.ecdsa = second != nullptr;
  yyjson_val* ours = rsa ? first : second;
  if (ours == nullptr) return out;
  TRY_ASSIGN(out.nonce, GoJson::bytes(ours, "nonce"));
  TRY_ASSIGN(out.signature, GoJson::bytes(ours, "signature"));
  TRY_ASSIGN(out.r, GoJson::bytes(ours, "r"));
  TRY_ASSIGN(out.s, GoJson::bytes(ours, "s"));
  return out;
}

Result<void> verify_answer(const PublicKey& key, BytesView nonce, const Answer& answer) {
  if (key.is_rsa() ? !answer.rsa : !answer.ecdsa)
    return invalid(std::string("expecting ") + (key.is_rsa() ? "RSA" : "ECDSA") + " response");
  TRY_ASSIGN(const Bytes digest, combine(nonce, answer.nonce));
  if (key.is_rsa()) {
    if (!verify_pss(key, digest, answer.signature)) return invalid("RSA signature verify failed");
    return {};
  }
  const auto mismatch = [] { return invalid("ECDSA signature verify failed"); };
  if (answer.r.size() > kMaxSignatureInt || answer.s.size() > kMaxSignatureInt) return mismatch();
  const Bytes signature = der::sequence({der::unsigned_integer(answer.r), der::unsigned_integer(answer.s)});
  if (!key.verify(HashAlg::sha256, digest, signature)) return mismatch();
  return {};
}

}  // namespace limpet::x509pop
