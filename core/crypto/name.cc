// SPDX-License-Identifier: Apache-2.0
// Distinguished names: writing them, and showing them the way Go's pkix.Name does.

#include <algorithm>
#include <cstring>

#include "crypto/der.h"
#include "crypto/x509.h"

namespace limpet {

namespace {

struct Known {
  std::string_view oid;
  std::string_view label;
  bool single;  // Go keeps only the last of several
};
// In the order in which Go's Name lays its fields out.
constexpr Known kKnown[] = {
    {"2.5.4.6", "C", false},           {"2.5.4.10", "O", false}, {"2.5.4.11", "OU", false},
    {"2.5.4.7", "L", false},           {"2.5.4.8", "ST", false}, {"2.5.4.9", "STREET", false},
    {"2.5.4.17", "POSTALCODE", false}, {"2.5.4.3", "CN", true},  {"2.5.4.5", "SERIALNUMBER", true},
};

struct Attribute {
  std::string oid;
  der::Element value;
};

std::vector<Attribute> attributes_of(BytesView name_der) {
  std::vector<Attribute> out;
  const Result<der::Element> name = der::single(name_der, der::kSequence);
  if (!name) return out;
  for (der::Reader rdns(name->content); !rdns.empty();) {
    const Result<der::Element> rdn = rdns.expect(der::kSet);
    if (!rdn) return out;
    for (der::Reader reader(rdn->content); !reader.empty();) {
      const Result<der::Element> attribute = reader.expect(der::kSequence);
      if (!attribute) return out;
      der::Reader fields(attribute->content);
      const Result<der::Element> oid = fields.expect(der::kOid);
      const Result<der::Element> value = fields.next();
      if (!oid || !value) return out;
      Result<std::string> dotted = der::read_oid(oid->content);
      if (!dotted) return out;
      out.push_back({std::move(*dotted), *value});
    }
  }
  return out;
}

// RFC 2253 escapes, as Go applies them.
std::string escape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool edge_space = c == ' ' && (i == 0 || i + 1 == text.size());
    if (std::strchr(",+\"\\<>;", c) != nullptr ? c != '\0' : (edge_space || (c == '#' && i == 0))) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

bool printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && std::strchr(" '()+,-./:=?", c) != nullptr);
  });
}

}  // namespace

std::string Certificate::subject_text() const {
  const std::vector<Attribute> attributes = attributes_of(subject);
  std::vector<std::string> rdns;  // first to last
  for (const Attribute& attribute : attributes)
    if (std::ranges::find(kKnown, attribute.oid, &Known::oid) == std::end(kKnown))
      rdns.push_back(attribute.oid + "=#" + hex_encode(attribute.value.whole));
  for (const Known& known : kKnown) {
    std::string rdn;
    for (const Attribute& attribute : attributes) {
      if (attribute.oid != known.oid) continue;
      if (known.single) rdn.clear();
      if (!rdn.empty()) rdn += "+";
      rdn += std::string(known.label) + "=" + escape(as_text(attribute.value.content));
    }
    if (!rdn.empty()) rdns.push_back(std::move(rdn));
  }
  std::string out;
  for (auto rdn = rdns.rbegin(); rdn != rdns.rend(); ++rdn) out += (out.empty() ? "" : ",") + *rdn;
  return out;
}

Bytes encode_name(const std::vector<NameAttribute>& attributes) {
  Bytes rdns;
  for (const NameAttribute& attribute : attributes) {
    const uint8_t tag = printable(attribute.value) ? der::kPrintableString : der::kUtf8String;
    const Bytes pair = der::sequence({der::oid(attribute.oid), der::element(tag, as_bytes(attribute.value))});
    append(rdns, der::element(der::kSet, pair));
  }
  return der::element(der::kSequence, rdns);
}

}  // namespace limpet
