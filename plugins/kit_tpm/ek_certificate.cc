// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/ek_certificate.h"

#include <algorithm>
#include <map>

#include "crypto/der.h"
#include "crypto/extensions.h"
#include "crypto/oids.h"
#include "kit/names.h"

namespace limpet::tpm_wire {
namespace {

constexpr std::string_view kManufacturer = "2.23.133.2.1";
constexpr std::string_view kModel = "2.23.133.2.2";
constexpr std::string_view kVersion = "2.23.133.2.3";
constexpr std::string_view kSpecification = "2.23.133.2.16";
constexpr std::string_view kSubjectDirectory = "2.5.29.9";
constexpr uint8_t kDirectoryName = 0xa4;
constexpr size_t kMaxText = 256;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

struct Extension {
  bool critical = false;
  BytesView value;
};
using Extensions = std::map<std::string, Extension, std::less<>>;

Result<Extensions> read_all(const Certificate& certificate) {
  Extensions out;
  TRY_ASSIGN(const BytesView content, kit::extensions_of(certificate.der));
  TRY(read_extensions(content, [&out](const std::string& oid, bool critical, BytesView value) -> Result<void> {
    out.emplace(oid, Extension{critical, value});
    return {};
  }));
  return out;
}

const Extension* find(const Extensions& all, std::string_view oid) {
  const auto place = all.find(oid);
  return place == all.end() ? nullptr : &place->second;
}

// Selectors are made of it: visible ASCII only.
Result<void> put_text(std::string& out, std::string_view what, BytesView value) {
  const auto visible = [](uint8_t c) { return c >= 0x20 && c < 0x7f; };
  if (!out.empty()) return invalid("the " + std::string(what) + " stands twice in the subject alternative name");
  if (value.empty() || value.size() > kMaxText || !std::ranges::all_of(value, visible))
    return invalid("the " + std::string(what) + " is empty or not plain text");
  out = as_text(value);
  return {};
}

Result<void> read_attribute(TpmModel& out, BytesView content) {
  der::Reader fields(content);
  TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
  TRY_ASSIGN(const std::string dotted, der::read_oid(oid.content));
  TRY_ASSIGN(const der::Element value, fields.next());
  TRY(fields.end());
  if (value.tag != der::kUtf8String && value.tag != der::kPrintableString)
    return invalid("attribute " + dotted + " is not text");
  if (dotted == kManufacturer) return put_text(out.manufacturer, "manufacturer", value.content);
  if (dotted == kModel) return put_text(out.model, "model", value.content);
  if (dotted == kVersion) return put_text(out.version, "version", value.content);
  return invalid("attribute " + dotted + " does not belong into the subject alternative name");
}

// Exactly one directory name, with manufacturer, model and version and nothing else.
Result<TpmModel> read_model(BytesView value) {
  TRY_ASSIGN(const der::Element names, der::single(value, der::kSequence));
  TRY_ASSIGN(const der::Element wrapped, der::single(names.content, kDirectoryName));
  TRY_ASSIGN(const der::Element name, der::single(wrapped.content, der::kSequence));
  TpmModel out;
  for (der::Reader sets(name.content); !sets.empty();) {
    TRY_ASSIGN(const der::Element set, sets.expect(der::kSet));
    for (der::Reader attributes(set.content); !attributes.empty();) {
      TRY_ASSIGN(const der::Element attribute, attributes.expect(der::kSequence));
      TRY(read_attribute(out, attribute.content));
    }
  }
  if (out.manufacturer.empty() || out.model.empty() || out.version.empty())
    return invalid("manufacturer, model and version must all be there");
  return out;
}

Result<TpmModel> check_alt_name(const Certificate& certificate, const Extensions& all) {
  const Extension* name = find(all, oids::kSubjectAltName);
  if (name == nullptr) return invalid("no subject alternative name");
  const auto subject = der::single(certificate.subject, der::kSequence);
  if (subject && subject->content.empty() && !name->critical)
    return invalid("with an empty subject the subject alternative name must be critical");
  TRY_ASSIGN_WITHIN("subject alternative name", TpmModel out, read_model(name->value));
  return out;
}

Result<void> check_usage(const Certificate& certificate, const Extensions& all) {
  const Extension* usage = find(all, oids::kKeyUsage);
  if (usage == nullptr || !usage->critical) return invalid("key usage must be there and critical");
  const bool rsa = certificate.key.is_rsa();
  if ((certificate.key_usage & (rsa ? kKeyEncipherment : kKeyAgreement)) == 0)
    return invalid(rsa ? "key usage without keyEncipherment" : "key usage without keyAgreement");
  return {};
}

Result<void> check_directory_attributes(const Extensions& all) {
  const Extension* attributes = find(all, kSubjectDirectory);
  if (attributes == nullptr) return {};
  bool found = false;
  TRY_ASSIGN(const der::Element list, der::single(attributes->value, der::kSequence));
  for (der::Reader reader(list.content); !reader.empty();) {
    TRY_ASSIGN(const der::Element attribute, reader.expect(der::kSequence));
    der::Reader fields(attribute.content);
    TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
    TRY_ASSIGN(const std::string dotted, der::read_oid(oid.content));
    found = found || dotted == kSpecification;
  }
  if (!found) return invalid("subject directory attributes without the TPM specification");
  return {};
}

Result<TpmModel> check_profile(const Certificate& certificate) {
  TRY_ASSIGN(const Extensions all, read_all(certificate));
  if (all.empty()) return invalid("no extensions: not an X.509 version 3 certificate");
  if (certificate.serial.empty()) return invalid("the serial number is 0");
  const auto issuer = der::single(certificate.issuer, der::kSequence);
  if (!issuer || issuer->content.empty()) return invalid("the issuer is empty");
  const Extension* constraints = find(all, oids::kBasicConstraints);
  if (constraints == nullptr || !constraints->critical) return invalid("basic constraints must be there and critical");
  if (certificate.ca) return invalid("it is an authority's certificate");
  TRY_ASSIGN(TpmModel out, check_alt_name(certificate, all));
  TRY(check_usage(certificate, all));
  if (find(all, oids::kAuthorityKeyId) == nullptr) return invalid("no authority key identifier");
  for (const std::string_view oid : {oids::kAuthorityKeyId, oids::kExtKeyUsage, oids::kSubjectKeyId,
                                     oids::kAuthorityInfoAccess, oids::kCrlDistribution}) {
    const Extension* extension = find(all, oid);
    if (extension != nullptr && extension->critical)
      return invalid("extension " + std::string(oid) + " must not be critical");
  }
  TRY(check_directory_attributes(all));
  return out;
}

// Go leaves a critical name that it cannot read to its caller; so does this to check_ek_profile.
Result<bool> has_unknown_critical(const Certificate& certificate) {
  constexpr std::string_view kKnown[] = {oids::kBasicConstraints, oids::kKeyUsage,
                                         oids::kSubjectAltName,   oids::kExtKeyUsage,
                                         oids::kCrlDistribution,  oids::kCertificatePolicies,
                                         oids::kAuthorityKeyId,   oids::kAuthorityInfoAccess,
                                         oids::kSubjectKeyId};
  TRY_ASSIGN(const Extensions all, read_all(certificate));
  return std::ranges::any_of(all, [&](const auto& each) {
    return each.second.critical && std::ranges::find(kKnown, each.first) == std::end(kKnown);
  });
}

bool may_sign(const Certificate& authority, const Certificate& below, int64_t now) {
  if (authority.subject != below.issuer || !authority.ca || authority.unknown_critical) return false;
  if (authority.has_key_usage && (authority.key_usage & kKeyCertSign) == 0) return false;
  return authority.not_before <= now && now <= authority.not_after;
}

}  // namespace

Result<TpmModel> check_ek_profile(const Certificate& certificate) {
  TRY_ASSIGN_WITHIN("endorsement key certificate", TpmModel out, check_profile(certificate));
  return out;
}

Result<void> verify_ek_issuer(const Certificate& certificate, std::span<const Certificate> authorities, int64_t now) {
  const auto refuse = [&certificate](const std::string& why) {
    return invalid("endorsement key certificate of " + certificate.subject_text() + ": " + why);
  };
  const auto unknown = has_unknown_critical(certificate);
  if (!unknown || *unknown) return refuse("unhandled critical extension");
  if (now < certificate.not_before || now > certificate.not_after) return refuse("it has expired or is not yet valid");
  for (const Certificate& authority : authorities)
    if (may_sign(authority, certificate, now) && certificate.verify_signed_by(authority)) return {};
  return refuse("signed by an unknown authority");
}

}  // namespace limpet::tpm_wire
