// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm_devid/messages.h"

#include "kit/go_json.h"

namespace limpet::tpm_devid {
namespace {

using kit::GoJson;

constexpr size_t kMaxPayload = 64u << 10;
constexpr size_t kMaxCertificates = 5;
constexpr size_t kMaxCertificate = 16u << 10;
constexpr size_t kMaxPart = 1024;
constexpr size_t kMaxNonce = 64;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string quoted(BytesView bytes) { return "\"" + base64_encode(bytes) + "\""; }

Result<Bytes> bounded(yyjson_val* parent, const char* name, size_t most) {
  TRY_ASSIGN(Bytes out, GoJson::bytes(parent, name));
  if (out.empty()) return invalid(std::string(name) + " is missing");
  if (out.size() > most) return invalid(std::string(name) + " is longer than " + std::to_string(most) + " bytes");
  return out;
}

Result<GoJson> parse(BytesView json) {
  if (json.size() > kMaxPayload) return invalid("larger than 64 KiB");
  return GoJson::parse(json);
}

}  // namespace

std::string encode_payload(const Payload& payload) {
  std::string chain;
  for (const Bytes& certificate : payload.devid_chain) chain += (chain.empty() ? "" : ",") + quoted(certificate);
  return "{\"DevIDCert\":[" + chain + "],\"DevIDPub\":" + quoted(payload.devid_public) +
         ",\"EKCert\":" + quoted(payload.ek_certificate) + ",\"EKPub\":" + quoted(payload.ek_public) +
         ",\"AKPub\":" + quoted(payload.ak_public) + ",\"CertifiedDevID\":" + quoted(payload.certified_devid) +
         ",\"CertificationSignature\":" + quoted(payload.certification_signature) + "}";
}

Result<Payload> decode_payload(BytesView json) {
  TRY_ASSIGN(const GoJson document, parse(json));
  yyjson_val* root = document.root();
  Payload out;
  TRY_ASSIGN(out.devid_chain, GoJson::bytes_list(root, "DevIDCert", kMaxCertificates));
  if (out.devid_chain.empty()) return invalid("DevIDCert is missing");
  for (const Bytes& certificate : out.devid_chain)
    if (certificate.size() > kMaxCertificate) return invalid("DevIDCert: a certificate is larger than 16 KiB");
  TRY_ASSIGN(out.devid_public, bounded(root, "DevIDPub", kMaxPart));
  TRY_ASSIGN(out.ek_certificate, bounded(root, "EKCert", kMaxCertificate));
  TRY_ASSIGN(out.ek_public, bounded(root, "EKPub", kMaxPart));
  TRY_ASSIGN(out.ak_public, bounded(root, "AKPub", kMaxPart));
  TRY_ASSIGN(out.certified_devid, bounded(root, "CertifiedDevID", kMaxPart));
  TRY_ASSIGN(out.certification_signature, bounded(root, "CertificationSignature", kMaxPart));
  return out;
}

std::string encode_challenge(const Challenge& challenge) {
  return "{\"DevID\":" + quoted(challenge.devid_nonce) +
         ",\"CredActivation\":{\"Credential\":" + quoted(challenge.credential.id_object) +
         ",\"Secret\":" + quoted(challenge.credential.secret) + "}}";
}

Result<Challenge> decode_challenge(BytesView json) {
  TRY_ASSIGN(const GoJson document, parse(json));
  Challenge out;
  TRY_ASSIGN(out.devid_nonce, bounded(document.root(), "DevID", kMaxNonce));
  TRY_ASSIGN(yyjson_val * activation, GoJson::object(document.root(), "CredActivation"));
  if (activation == nullptr) return invalid("CredActivation is missing");
  TRY_ASSIGN(out.credential.id_object, bounded(activation, "Credential", kMaxPart));
  TRY_ASSIGN(out.credential.secret, bounded(activation, "Secret", kMaxPart));
  return out;
}

std::string encode_response(const Response& response) {
  return "{\"DevID\":" + quoted(response.devid_signature) + ",\"CredActivation\":" + quoted(response.secret) + "}";
}

Result<Response> decode_response(BytesView json) {
  TRY_ASSIGN(const GoJson document, parse(json));
  Response out;
  TRY_ASSIGN(out.devid_signature, bounded(document.root(), "DevID", kMaxPart));
  TRY_ASSIGN(out.secret, bounded(document.root(), "CredActivation", kMaxNonce));
  return out;
}

}  // namespace limpet::tpm_devid
