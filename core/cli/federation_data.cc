// SPDX-License-Identifier: Apache-2.0
#include "cli/federation_data.h"

#include <strings.h>
#include <yyjson.h>

#include <memory>
#include <optional>

#include "cli/bundle_input.h"
#include "cli/output.h"
#include "wire/api_types.h"

namespace limpet::cli {
namespace {

using wire::set_string;

// What flags and JSON have in common.
struct Input {
  std::string trust_domain, url, profile, endpoint_id;
};

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<RelationshipMessage> to_message(const Input& input) {
  if (input.trust_domain.empty()) return invalid("trust domain is required");
  if (input.url.empty()) return invalid("bundle endpoint URL is required");
  RelationshipMessage out;
  set_string(out->trust_domain, input.trust_domain);
  set_string(out->bundle_endpoint_url, input.url);
  if (input.profile == "https_web") {
    out->which_bundle_endpoint_profile = spire_api_types_FederationRelationship_https_web_tag;
    return out;
  }
  if (input.profile != "https_spiffe") {
    return invalid("unknown bundle endpoint profile type: " + go_quoted(input.profile));
  }
  if (input.endpoint_id.empty()) {
    return invalid("endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set");
  }
  TRY_WITHIN("cannot parse bundle endpoint SPIFFE ID", SpiffeId::parse(input.endpoint_id));
  out->which_bundle_endpoint_profile = spire_api_types_FederationRelationship_https_spiffe_tag;
  set_string(out->bundle_endpoint_profile.https_spiffe.endpoint_spiffe_id, input.endpoint_id);
  return out;
}

Result<void> add_bundle(RelationshipMessage& out, const std::string& trust_domain, std::string_view text,
                        std::string_view format) {
  TRY_ASSIGN(const TrustDomain parsed, TrustDomain::parse(trust_domain));
  TRY_ASSIGN(const Bundle bundle, parse_bundle(text, format, parsed));
  out->has_trust_domain_bundle = true;
  wire::write_bundle(out->trust_domain_bundle, bundle);
  return {};
}

// ---- JSON ----

// Member names match in any case, as Go's do.
yyjson_val* member(yyjson_val* object, const char* name) {
  size_t index = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* value = nullptr;
  yyjson_obj_foreach(object, index, count, key, value) {
    if (::strcasecmp(yyjson_get_str(key), name) == 0) return value;
  }
  return nullptr;
}

Result<std::string> text_member(yyjson_val* object, const char* name) {
  yyjson_val* value = member(object, name);
  if (value == nullptr || yyjson_is_null(value)) return std::string();
  if (!yyjson_is_str(value)) return invalid(std::string("member \"") + name + "\" is not a string");
  return std::string(yyjson_get_str(value), yyjson_get_len(value));
}

Result<void> add_json_bundle(RelationshipMessage& out, yyjson_val* json, const std::string& trust_domain) {
  yyjson_val* bundle = member(json, "trustDomainBundle");
  if (bundle == nullptr || yyjson_is_null(bundle)) return {};
  TRY_ASSIGN(const std::string format, text_member(json, "trustDomainBundleFormat"));
  if (format == "pem") {
    if (!yyjson_is_str(bundle)) return invalid("failed to unmarshal json: a string with PEM text is expected");
    return add_bundle(out, trust_domain, {yyjson_get_str(bundle), yyjson_get_len(bundle)}, format);
  }
  if (format != "spiffe") return invalid("bundle format " + go_quoted(format) + " is unsupported");
  size_t size = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(yyjson_val_write(bundle, 0, &size), &std::free);
  return add_bundle(out, trust_domain, text ? std::string_view(text.get(), size) : std::string_view(), format);
}

Result<RelationshipMessage> relationship_from_json(yyjson_val* json) {
  if (!yyjson_is_obj(json)) return invalid("not an object");
  Input input;
  TRY_ASSIGN(input.trust_domain, text_member(json, "trustDomain"));
  TRY_ASSIGN(input.url, text_member(json, "bundleEndpointURL"));
  TRY_ASSIGN(input.profile, text_member(json, "bundleEndpointProfile"));
  TRY_ASSIGN(input.endpoint_id, text_member(json, "endpointSPIFFEID"));
  TRY_ASSIGN(RelationshipMessage out, to_message(input));
  TRY_WITHIN("cannot parse bundle raw message", add_json_bundle(out, json, input.trust_domain));
  return out;
}

}  // namespace

Result<RelationshipMessage> relationship_from_flags(const Flags& flags) {
  TRY_ASSIGN(RelationshipMessage out,
             to_message({flags.text("trustDomain"), flags.text("bundleEndpointURL"),
                         flags.text("bundleEndpointProfile"), flags.text("endpointSpiffeID")}));
  const std::string& path = flags.text("trustDomainBundlePath");
  if (path.empty()) return out;
  TRY_ASSIGN_WITHIN("cannot read bundle file", const std::string text, read_file(path));
  TRY_WITHIN("cannot parse bundle file",
             add_bundle(out, flags.text("trustDomain"), text, flags.text("trustDomainBundleFormat")));
  return out;
}

Result<std::vector<RelationshipMessage>> relationships_from_file(const std::string& path) {
  TRY_ASSIGN(std::string content, read_file(path));
  yyjson_read_err error{};
  const std::unique_ptr<yyjson_doc, decltype(&yyjson_doc_free)> doc(
      yyjson_read_opts(content.data(), content.size(), YYJSON_READ_NOFLAG, nullptr, &error), yyjson_doc_free);
  if (doc == nullptr) {
    return invalid("failed to parse JSON: byte " + std::to_string(error.pos) + ": " + error.msg);
  }
  yyjson_val* list = member(yyjson_doc_get_root(doc.get()), "federationRelationships");
  if (!yyjson_is_arr(list)) return invalid("failed to parse JSON: no list named \"federationRelationships\"");
  std::vector<RelationshipMessage> out;
  size_t index = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, index, count, item) {
    auto relationship = relationship_from_json(item);
    if (!relationship) {
      return fail(std::move(relationship).error().within("could not parse item " + std::to_string(index)));
    }
    out.push_back(std::move(*relationship));
  }
  return out;
}

}  // namespace limpet::cli
