// SPDX-License-Identifier: Apache-2.0
#include "kit/names.h"

#include <arpa/inet.h>

#include <algorithm>

#include "crypto/der.h"

namespace limpet::kit {
namespace {

constexpr std::string_view kSubjectAltName = "2.5.29.17";
constexpr uint8_t kExtensionsTag = 0xa3;
constexpr uint8_t kIpAddressTag = 0x87;

// The kinds of string whose bytes are text as they are.
constexpr uint8_t kTexts[] = {der::kUtf8String, der::kPrintableString, 0x12, 0x14, 0x16};

Result<void> read_attribute(BytesView content, std::vector<NameAttribute>& out) {
  der::Reader fields(content);
  TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
  TRY_ASSIGN(std::string dotted, der::read_oid(oid.content));
  TRY_ASSIGN(const der::Element value, fields.next());
  const std::string_view text = as_text(value.content);
  if (std::ranges::find(kTexts, value.tag) != std::end(kTexts) && is_utf8(text))
    out.push_back({std::move(dotted), std::string(text)});
  return {};
}

Result<std::vector<NameAttribute>> read_name(BytesView name) {
  std::vector<NameAttribute> out;
  TRY_ASSIGN(const der::Element sequence, der::single(name, der::kSequence));
  for (der::Reader sets(sequence.content); !sets.empty();) {
    TRY_ASSIGN(const der::Element set, sets.expect(der::kSet));
    for (der::Reader attributes(set.content); !attributes.empty();) {
      TRY_ASSIGN(const der::Element attribute, attributes.expect(der::kSequence));
      TRY(read_attribute(attribute.content, out));
    }
  }
  return out;
}

Result<void> read_addresses(BytesView value, std::vector<Bytes>& out) {
  TRY_ASSIGN(const der::Element names, der::single(value, der::kSequence));
  for (der::Reader reader(names.content); !reader.empty();) {
    TRY_ASSIGN(const der::Element name, reader.next());
    if (name.tag == kIpAddressTag) out.push_back(to_bytes(name.content));
  }
  return {};
}

Result<std::vector<Bytes>> find_addresses(BytesView certificate) {
  std::vector<Bytes> out;
  TRY_ASSIGN(const BytesView extensions, extensions_of(certificate));
  for (der::Reader reader(extensions); !reader.empty();) {
    TRY_ASSIGN(const der::Element extension, reader.expect(der::kSequence));
    der::Reader fields(extension.content);
    TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
    TRY_ASSIGN(const std::string dotted, der::read_oid(oid.content));
    if (fields.next_is(der::kBoolean)) TRY(fields.next());
    TRY_ASSIGN(const der::Element value, fields.expect(der::kOctetString));
    if (dotted == kSubjectAltName) TRY(read_addresses(value.content, out));
  }
  return out;
}

// An IPv4 address has 4 bytes, also when it is written as an IPv6 one.
Bytes parse_ip(const std::string& text) {
  Bytes out(4);
  if (::inet_pton(AF_INET, text.c_str(), out.data()) == 1) return out;
  out.resize(16);
  if (::inet_pton(AF_INET6, text.c_str(), out.data()) != 1) return {};
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(std::begin(kMapped), std::end(kMapped), out.begin())) out.erase(out.begin(), out.begin() + 12);
  return out;
}

}  // namespace

Result<BytesView> extensions_of(BytesView certificate) {
  TRY_ASSIGN(const der::Element outer, der::single(certificate, der::kSequence));
  der::Reader parts(outer.content);
  TRY_ASSIGN(const der::Element body, parts.expect(der::kSequence));
  for (der::Reader fields(body.content); !fields.empty();) {
    TRY_ASSIGN(const der::Element field, fields.next());
    if (field.tag != kExtensionsTag) continue;
    TRY_ASSIGN(const der::Element list, der::single(field.content, der::kSequence));
    return list.content;
  }
  return BytesView();
}

std::vector<NameAttribute> name_attributes(BytesView name_der) {
  return read_name(name_der).value_or(std::vector<NameAttribute>());
}

std::string common_name(BytesView name_der) {
  std::string out;
  for (NameAttribute& attribute : name_attributes(name_der))
    if (attribute.oid == kOidCommonName) out = std::move(attribute.value);
  return out;
}

std::vector<Bytes> ip_addresses(const Certificate& certificate) {
  return find_addresses(certificate.der).value_or(std::vector<Bytes>());
}

bool has_address(const Certificate& certificate, const std::string& ip) {
  const Bytes wanted = parse_ip(ip);
  const std::vector<Bytes> all = ip_addresses(certificate);
  return !wanted.empty() && std::ranges::find(all, wanted) != all.end();
}

std::string serial_hex(const Certificate& certificate) {
  return certificate.serial.empty() ? "00" : hex_encode(certificate.serial);
}

std::string fingerprint(const Certificate& certificate) { return hex_encode(sha1(certificate.der)); }

}  // namespace limpet::kit
