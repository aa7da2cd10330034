// SPDX-License-Identifier: Apache-2.0
#include "server/profiles.h"

#include <algorithm>

namespace limpet::server {
namespace {

constexpr uint8_t kSequence = 0x30;
// The attribute types id-at (2.5.4) of a name; each is the OID's last number.
constexpr uint8_t kCommonName = 3;
constexpr uint8_t kCountry = 6;
constexpr uint8_t kOrganization = 10;
constexpr uint8_t kOrganizationalUnit = 11;

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

// The id-at number of an RDN's first attribute; 0 when it is none of them.
uint8_t attribute_of(BytesView rdn_set_contents) {
  constexpr uint8_t kIdAt[] = {0x06, 0x03, 0x55, 0x04};
  auto attribute = read_element(rdn_set_contents);
  if (!attribute || attribute->contents.size() <= sizeof kIdAt) return 0;
  BytesView inside = attribute->contents;
  return std::equal(kIdAt, kIdAt + sizeof kIdAt, inside.begin()) ? inside[sizeof kIdAt] : uint8_t{0};
}

// `name` without its attributes of type `attribute` and with `added` (a Name of one RDN): behind the last of those in
// `after`, at the end when `after` is empty.
Result<Bytes> with_attribute(BytesView name, uint8_t attribute, BytesView added, std::initializer_list<uint8_t> after) {
  TRY_ASSIGN(Element outer, read_element(name));
  if (name[0] != kSequence || outer.whole.size() != name.size()) return fail(Code::invalid_argument, "malformed name");
  TRY_ASSIGN(Element added_name, read_element(added));
  Bytes kept;
  size_t place = 0;
  for (BytesView rest = outer.contents; !rest.empty();) {
    TRY_ASSIGN(Element rdn, read_element(rest));
    const uint8_t type = attribute_of(rdn.contents);
    if (type != attribute) append(kept, rdn.whole);
    if (after.size() == 0 || std::ranges::find(after, type) != after.end()) place = kept.size();
    rest = rest.subspan(rdn.whole.size());
  }
  kept.insert(kept.begin() + static_cast<ptrdiff_t>(place), added_name.contents.begin(), added_name.contents.end());
  if (kept.size() > 0xffff) return fail(Code::invalid_argument, "name is too long");
  return sequence_of(kept);
}

}  // namespace

Result<Bytes> with_common_name(BytesView name, const std::string& common_name) {
  return with_attribute(name, kCommonName, encode_name({{kOidCommonName, common_name}}), {});
}

Result<Bytes> with_organizational_unit(BytesView name, const std::string& unit) {
  return with_attribute(name, kOrganizationalUnit, encode_name({{kOidOrganizationalUnit, unit}}),
                        {kCountry, kOrganization});
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

CertificateTemplate downstream_ca_template(const DownstreamCaRequest& request, const Certificate& ca, size_t parents,
                                           const TrustDomain& trust_domain, int64_t now) {
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = ca.subject;
  // our own CA's name was read from a certificate that our parser took; should it not be readable here, it stays as is
  if (auto named = with_organizational_unit(ca.subject, "DOWNSTREAM-" + std::to_string(parents)))
    cert.subject = std::move(*named);
  cert.issuer = ca.subject;
  cert.not_before = now - kNotBeforeSlack;
  cert.not_after = std::min(now + request.ttl, ca.not_after);
  cert.spki = request.spki;
  cert.ca = true;
  cert.key_usage = kKeyCertSign | kCrlSign;
  cert.uris = {trust_domain.id()};
  cert.subject_key_id = request.subject_key_id;
  cert.authority_key_id = ca.subject_key_id;
  return cert;
}

}  // namespace limpet::server
