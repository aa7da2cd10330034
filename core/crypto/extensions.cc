// SPDX-License-Identifier: Apache-2.0
#include "crypto/extensions.h"

#include <set>

#include "crypto/der.h"

namespace limpet {

namespace {

constexpr size_t kMaxExtensions = 64;  // SVIDs have 6, public web certificates about 12
constexpr size_t kMaxAltNames = 1024;
constexpr uint8_t kMailName = 0x81;
constexpr uint8_t kDnsName = 0x82;
constexpr uint8_t kUriName = 0x86;
constexpr uint8_t kIpName = 0x87;

Result<std::string> read_ia5(BytesView content) {
  for (uint8_t byte : content)
    if (byte >= 0x80 || byte == 0) return fail(Code::invalid_argument, "subject alternative name is not ASCII text");
  return std::string(as_text(content));
}

}  // namespace

Result<void> read_extensions(
    BytesView content,
    const std::function<Result<void>(const std::string& oid, bool critical, BytesView value)>& each) {
  std::set<std::string> seen;
  for (der::Reader reader(content); !reader.empty();) {
    if (seen.size() == kMaxExtensions) return fail(Code::invalid_argument, "more than 64 extensions");
    TRY_ASSIGN(const der::Element extension, reader.expect(der::kSequence));
    der::Reader fields(extension.content);
    TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
    TRY_ASSIGN(const std::string name, der::read_oid(oid.content));
    bool critical = false;
    if (fields.next_is(der::kBoolean)) {
      TRY_ASSIGN(const der::Element flag, fields.next());
      TRY_ASSIGN(critical, der::read_boolean(flag.content));
    }
    TRY_ASSIGN(const der::Element value, fields.expect(der::kOctetString));
    TRY(fields.end());
    if (!seen.insert(name).second) return fail(Code::invalid_argument, "extension " + name + " stands there twice");
    TRY_WITHIN("extension " + name, each(name, critical, value.content));
  }
  return {};
}

Result<AltNames> read_alt_names(BytesView value) {
  TRY_ASSIGN(const der::Element names, der::single(value, der::kSequence));
  AltNames out;
  size_t count = 0;
  for (der::Reader reader(names.content); !reader.empty();) {
    if (++count > kMaxAltNames) return fail(Code::invalid_argument, "more than 1024 subject alternative names");
    TRY_ASSIGN(const der::Element name, reader.next());
    if (name.tag == kUriName) {
      TRY_ASSIGN(std::string text, read_ia5(name.content));
      out.uris.push_back(std::move(text));
    } else if (name.tag == kDnsName) {
      TRY_ASSIGN(std::string text, read_ia5(name.content));
      out.dns_names.push_back(std::move(text));
    } else if (name.tag == kMailName || name.tag == kIpName) {
      out.others_known = true;
    }
  }
  return out;
}

Bytes encode_extension(std::string_view oid, bool critical, BytesView value) {
  const Bytes flag = critical ? der::element(der::kBoolean, Bytes{0xff}) : Bytes();  // FALSE is the default: left out
  return der::sequence({der::oid(oid), flag, der::element(der::kOctetString, value)});
}

Bytes encode_alt_names(const std::vector<std::string>& dns_names, const std::vector<std::string>& uris) {
  Bytes names;
  for (const std::string& dns : dns_names) append(names, der::element(kDnsName, as_bytes(dns)));
  for (const std::string& uri : uris) append(names, der::element(kUriName, as_bytes(uri)));
  return der::element(der::kSequence, names);
}

Result<void> check_name(BytesView name_der) {
  TRY_ASSIGN(const der::Element name, der::single(name_der, der::kSequence));
  for (der::Reader rdns(name.content); !rdns.empty();) {
    TRY_ASSIGN(const der::Element rdn, rdns.expect(der::kSet));
    for (der::Reader attributes(rdn.content); !attributes.empty();) {
      TRY_ASSIGN(const der::Element attribute, attributes.expect(der::kSequence));
      der::Reader fields(attribute.content);
      TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
      TRY(der::read_oid(oid.content));
      TRY(fields.next());
      TRY(fields.end());
    }
  }
  return {};
}

}  // namespace limpet
