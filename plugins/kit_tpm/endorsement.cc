// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/endorsement.h"

#include "crypto/x509.h"

namespace limpet::tpm {
namespace {

constexpr uint32_t kUsualEkRsa = 0x81010001;  // TCG provisioning guidance: where an EK is kept

bool certifies(BytesView certificate, const Object& key) {
  const auto parsed = Certificate::parse(certificate);
  const auto ours = public_key_of(key.public_area());
  return !parsed || !ours || parsed->key == *ours;  // one that we cannot read is the server's to judge
}

}  // namespace

Result<Endorsement> open_endorsement(Tpm& tpm, EkKind kind) {
  auto certificate = tpm.ek_certificate(kind);
  if (!certificate && certificate.error().code == Code::unavailable) return fail(std::move(certificate).error());
  TRY_ASSIGN_WITHIN("endorsement key", Object key, tpm.create_ek(kind, true));
  if (!certificate) {
    const Error& error = certificate.error();
    return Endorsement{std::move(key), {}, error.code == Code::not_found ? "" : error.message};
  }
  if (certifies(*certificate, key)) return Endorsement{std::move(key), std::move(*certificate), {}};
  if (kind == EkKind::rsa_2048) {
    auto kept = tpm.read_persistent(kUsualEkRsa);
    if (kept && certifies(*certificate, *kept))
      return Endorsement{std::move(*kept), std::move(*certificate), {}, kUsualEkRsa};
  }
  return Endorsement{std::move(key), {}, "NV index " + ek_certificate_index(kind) + ": a certificate of another key"};
}

}  // namespace limpet::tpm
