// SPDX-License-Identifier: Apache-2.0
#include "server/profiles.h"

#include <algorithm>

namespace limpet::server {
namespace {

constexpr uint8_t kSequence = 0x30;
constexpr uint8_t kCommonNameOid[] = {0x06, 0x03, 0x55, 0x04, 0x03};  // 2.5.4.3 with tag and length

// One DER element at the start of `in`: its whole encoding and its contents. Definite lengths up to 65,535 only.
struct Element {
  BytesView whole;
  BytesView contents;
};
Result<Element> read_element(BytesView in) {
  size_t header = 2;
  if (in.size() < header) return fail(Code::invalid_argument, "truncated name");
  size_t length = in[1];
  if (length >= 0x80) {
    size_t octets = length & 0x7f;
    if (octets == 0 || octets > 2 || in.size() < 2 + octets) return fail(Code::invalid_argument, "malformed name");
    length = 0;
    for (size_t i = 0; i < octets; i++) length = length << 8 | in[2 + i];
    header += octets;
  }
  if (in.size() - header < length) return fail(Code::invalid_argument, "truncated name");
  return Element{in.first(header + length), in.subspan(header, length)};
}

Bytes sequence_of(BytesView contents) {
  Bytes out{kSequence};
  size_t length = contents.size();
  if (length >= 0x100) {
    out.insert(out.end(), {0x82, static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
  } else if (length >= 0x80) {
    out.insert(out.end(), {0x81, static_cast<uint8_t>(length)});
  } else {
    out.push_back(static_cast<uint8_t>(length));
  }
  append(out, contents);
  return out;
}

bool is_common_name(BytesView rdn_set_contents) {
  auto attribute = read_element(rdn_set_contents);
  if (!attribute) return false;
  BytesView inside = attribute->contents;
  return inside.size() >= sizeof kCommonNameOid &&
         std::equal(kCommonNameOid, kCommonNameOid + sizeof kCommonNameOid, inside.begin());
}

}  // namespace

Result<Bytes> with_common_name(BytesView name, const std::string& common_name) {
  TRY_ASSIGN(Element outer, read_element(name));
  if (name[0] != kSequence || outer.whole.size() != name.size()) return fail(Code::invalid_argument, "malformed name");
  Bytes kept;
  for (BytesView rest = outer.contents; !rest.empty();) {
    TRY_ASSIGN(Element rdn, read_element(rest));
    if (!is_common_name(rdn.contents)) append(kept, rdn.whole);
    rest = rest.subspan(rdn.whole.size());
  }
  Bytes added = encode_name({{kOidCommonName, common_name}});
  TRY_ASSIGN(Element added_name, read_element(added));
  append(kept, added_name.contents);
  if (kept.size() > 0xffff) return fail(Code::invalid_argument, "name is too long");
  return sequence_of(kept);
}

CertificateTemplate svid_template(const SvidRequest& request, const Certificate& ca, int64_t now) {
  CertificateTemplate cert;
  cert.serial = random_serial();
  bool own_subject = request.subject.size() > 2;
  cert.subject = own_subject ? request.subject : encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}});
  if (!request.dns_names.empty()) {
    // a subject that cannot be read again cannot have passed the CSR's parser; it then stays as it is
    if (auto named = with_common_name(cert.subject, request.dns_names.front())) cert.subject = std::move(*named);
  }
  cert.issuer = ca.subject;
  cert.not_before = now - kNotBeforeSlack;
  cert.not_after = std::min(now + request.ttl, ca.not_after);
  cert.spki = request.spki;
  cert.key_usage = kDigitalSignature | kKeyEncipherment | kKeyAgreement;
  cert.server_and_client_auth = true;
  cert.uris = {request.id.text()};
  cert.dns_names = request.dns_names;
  cert.subject_key_id = request.subject_key_id;
  cert.authority_key_id = ca.subject_key_id;
  return cert;
}

CertificateTemplate ca_template(const CaSubject& subject, const TrustDomain& trust_domain, const PublicKey& key,
                                int64_t ttl, int64_t now) {
  CertificateTemplate cert;
  cert.serial = random_serial();
  Certificate numbered;
  numbered.serial = cert.serial;
  std::vector<NameAttribute> name;
  name.reserve(subject.country.size() + subject.organization.size() + 2);
  for (const std::string& value : subject.country) name.push_back({kOidCountry, value});
  for (const std::string& value : subject.organization) name.push_back({kOidOrganization, value});
  if (!subject.common_name.empty()) name.push_back({kOidCommonName, subject.common_name});
  name.push_back({kOidSerialNumber, numbered.serial_decimal()});
  cert.subject = encode_name(name);
  cert.issuer = cert.subject;
  cert.not_before = now - kNotBeforeSlack;
  cert.not_after = now + ttl;
  cert.spki = key.spki();
  cert.ca = true;
  cert.key_usage = kKeyCertSign | kCrlSign;
  cert.uris = {trust_domain.id()};
  cert.subject_key_id = key.key_id();
  return cert;
}

}  // namespace limpet::server
