// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm/policies.h"

#include <yyjson.h>

#include <algorithm>
#include <memory>
#include <set>

#include "crypto/der.h"
#include "kit/pem_files.h"

namespace limpet::tpm_attestor {
namespace {

constexpr size_t kMaxFileBytes = 1u << 20;
constexpr size_t kMaxPolicies = 100;
constexpr size_t kMaxAccepted = 100;
constexpr size_t kMaxNameBytes = 64;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

struct FreeDocument {
  void operator()(yyjson_doc* doc) const { yyjson_doc_free(doc); }
};

std::string_view text_of(yyjson_val* value) {
  return yyjson_is_str(value) ? std::string_view(yyjson_get_str(value), yyjson_get_len(value)) : std::string_view();
}

Result<void> check_keys(yyjson_val* object, std::initializer_list<std::string_view> known) {
  size_t at = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* value = nullptr;
  yyjson_obj_foreach(object, at, count, key, value) {
    if (std::ranges::find(known, text_of(key)) == known.end())
      return invalid("unknown member \"" + std::string(text_of(key)) + "\"");
  }
  return {};
}

// "2026-11-22T02:00:35Z", nothing else.
Result<int64_t> parse_time(std::string_view text) {
  constexpr std::string_view kShape = "0000-00-00T00:00:00Z";
  std::string digits;
  bool good = text.size() == kShape.size();
  for (size_t i = 0; good && i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    good = kShape[i] == '0' ? digit : text[i] == kShape[i];
    if (digit) digits.push_back(text[i]);
  }
  digits.push_back('Z');
  const BytesView content = as_bytes(digits);
  const auto time = good ? der::read_time({der::kGeneralizedTime, content, content}) : Result<int64_t>(invalid(""));
  if (!time) return invalid("\"" + std::string(text) + "\" is not a time like 2026-11-22T02:00:35Z");
  return time;
}

Result<AcceptedDigest> read_accepted(yyjson_val* value, size_t size) {
  AcceptedDigest out;
  std::string_view hex = text_of(value);
  if (yyjson_is_obj(value)) {
    TRY(check_keys(value, {"digest", "from", "until"}));
    hex = text_of(yyjson_obj_get(value, "digest"));
    if (yyjson_val* from = yyjson_obj_get(value, "from")) {
      TRY_ASSIGN(out.from, parse_time(text_of(from)));
    }
    if (yyjson_val* until = yyjson_obj_get(value, "until")) {
      TRY_ASSIGN(out.until, parse_time(text_of(until)));
    }
  }
  auto digest = hex_decode(hex);
  if (!digest || digest->size() != size)
    return invalid("\"" + std::string(hex) + "\" is not a digest of " + std::to_string(size) + " bytes in hex");
  out.digest = std::move(*digest);
  return out;
}

Result<void> read_pcrs(PcrPolicy& out, yyjson_val* list) {
  if (!yyjson_is_arr(list) || yyjson_arr_size(list) == 0) return invalid("pcrs must be a list of numbers from 0 to 23");
  tpm_wire::PcrSets sets;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, at, count, item) {
    if (!yyjson_is_uint(item) || yyjson_get_uint(item) >= tpm_wire::kPcrs)
      return invalid("pcrs must be a list of numbers from 0 to 23");
    tpm_wire::add_pcrs(sets, out.set.hash, {static_cast<uint32_t>(yyjson_get_uint(item))});
  }
  out.set = std::move(sets.front());
  return {};
}

Result<void> read_body(PcrPolicy& out, yyjson_val* object) {
  TRY(check_keys(object, {"name", "bank", "pcrs", "mode", "accepted"}));
  yyjson_val* bank = yyjson_obj_get(object, "bank");
  TRY_ASSIGN(out.set.hash, tpm_wire::parse_bank(bank == nullptr ? "sha256" : text_of(bank)));
  TRY_ASSIGN(const HashAlg alg, tpm_wire::hash_of(out.set.hash));
  TRY(read_pcrs(out, yyjson_obj_get(object, "pcrs")));
  yyjson_val* mode = yyjson_obj_get(object, "mode");
  out.observe = text_of(mode) == "observe";
  if (mode != nullptr && !out.observe && text_of(mode) != "enforce")
    return invalid("mode must be \"enforce\" or \"observe\"");
  yyjson_val* list = yyjson_obj_get(object, "accepted");
  if ((list != nullptr || !out.observe) && !yyjson_is_arr(list)) return invalid("accepted must be a list of digests");
  if (yyjson_arr_size(list) > kMaxAccepted) return invalid("more than 100 accepted digests");
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, at, count, item) {
    TRY_ASSIGN_WITHIN("accepted", AcceptedDigest digest, read_accepted(item, tpm_wire::hash_bytes(alg)));
    out.accepted.push_back(std::move(digest));
  }
  return {};
}

// The name becomes part of a selector.
bool good_name(std::string_view name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  return !name.empty() && name.size() <= kMaxNameBytes && std::ranges::all_of(name, good);
}

Result<PcrPolicy> read_policy(yyjson_val* object, size_t index) {
  PcrPolicy out;
  out.name = text_of(yyjson_obj_get(object, "name"));
  if (!good_name(out.name))
    return invalid("policy " + std::to_string(index) + ": name must be 1 to 64 letters, digits, '-', '_' or '.'");
  TRY_WITHIN("policy " + out.name, read_body(out, object));
  return out;
}

}  // namespace

bool PcrPolicy::accepts(BytesView digest, int64_t now) const {
  return std::ranges::any_of(accepted, [&](const AcceptedDigest& one) {
    return one.from <= now && now < one.until && std::ranges::equal(one.digest, digest);
  });
}

Result<std::vector<PcrPolicy>> parse_policies(std::string_view json) {
  yyjson_read_err why = {};
  const std::unique_ptr<yyjson_doc, FreeDocument> doc(
      yyjson_read_opts(const_cast<char*>(json.data()), json.size(), YYJSON_READ_NOFLAG, nullptr, &why));
  if (doc == nullptr) return invalid(std::string("not valid JSON: ") + why.msg);
  yyjson_val* root = yyjson_doc_get_root(doc.get());
  yyjson_val* list = yyjson_obj_get(root, "policies");
  if (!yyjson_is_arr(list)) return invalid("an object with the list \"policies\" is expected");
  TRY(check_keys(root, {"policies"}));
  if (yyjson_arr_size(list) > kMaxPolicies) return invalid("more than 100 policies");
  std::vector<PcrPolicy> out;
  std::set<std::string> names;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, at, count, item) {
    TRY_ASSIGN(PcrPolicy policy, read_policy(item, at + 1));
    if (!names.insert(policy.name).second) return invalid("policy " + policy.name + " stands there twice");
    out.push_back(std::move(policy));
  }
  return out;
}

Result<std::vector<PcrPolicy>> read_policies(const std::string& path) {
  TRY_ASSIGN(const std::string text, kit::read_file(path, kMaxFileBytes));
  auto out = parse_policies(text);
  if (!out) return fail(Code::failed_precondition, path + ": " + out.error().message);
  return out;
}

}  // namespace limpet::tpm_attestor
