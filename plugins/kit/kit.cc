// SPDX-License-Identifier: Apache-2.0
// Configuration reading for the shipped plugins.
#include "kit/kit.h"

#include <yyjson.h>

namespace limpet::kit {
namespace {
constexpr size_t kMaxConfigBytes = 1u << 20;
}

void log(const limpet_host* host, int32_t level, std::string_view message) {
  host->log(host, level, lend(message), nullptr, 0);
}

void refuse(limpet_op* op, limpet_step_done done, const Error& error) {
  const limpet_status status = status_of(error);
  done(op, &status, nullptr);
}

void challenge(limpet_op* op, limpet_step_done done, std::string_view text) {
  limpet_attest_step out = {};
  out.size = sizeof out;
  out.challenge = lend(as_bytes(text));
  done(op, nullptr, &out);
}

void attest(limpet_op* op, limpet_step_done done, std::string_view agent_path,
            const std::vector<std::string>& selectors, bool can_reattest) {
  std::vector<limpet_str> items;
  items.reserve(selectors.size());
  for (const std::string& selector : selectors) items.push_back(lend(selector));
  limpet_attest_step out = {};
  out.size = sizeof out;
  out.attested = 1;
  out.agent_path = lend(agent_path);
  out.selectors = {items.data(), items.size()};
  out.can_reattest = can_reattest ? 1 : 0;
  done(op, nullptr, &out);
}

ConfigReader::ConfigReader(std::string_view json) {
  if (json.size() > kMaxConfigBytes) {
    error_ = Error{Code::invalid_argument, "the configuration is larger than 1 MiB"};
    return;
  }
  if (json.empty()) json = "{}";
  yyjson_read_err why = {};
  doc_ = yyjson_read_opts(const_cast<char*>(json.data()), json.size(), YYJSON_READ_NOFLAG, nullptr, &why);
  root_ = yyjson_doc_get_root(doc_);
  if (doc_ == nullptr) {
    error_ = Error{Code::invalid_argument, std::string("the configuration is not valid JSON: ") + why.msg};
  } else if (!yyjson_is_obj(root_)) {
    error_ = Error{Code::invalid_argument, "the configuration must be a JSON object"};
    root_ = nullptr;
  }
}

ConfigReader::~ConfigReader() { yyjson_doc_free(doc_); }

yyjson_val* ConfigReader::find(const char* key) {
  known_.insert(key);
  return root_ == nullptr ? nullptr : yyjson_obj_get(root_, key);
}

void ConfigReader::wrong(const char* key, const char* expected) {
  if (!error_) error_ = Error{Code::invalid_argument, std::string(key) + " must be " + expected};
}

bool ConfigReader::has(const char* key) { return find(key) != nullptr; }

std::string ConfigReader::text(const char* key) {
  yyjson_val* value = find(key);
  if (value == nullptr) return {};
  if (!yyjson_is_str(value)) {
    wrong(key, "a string");
    return {};
  }
  return std::string(yyjson_get_str(value), yyjson_get_len(value));
}

std::vector<std::string> ConfigReader::texts(const char* key) {
  yyjson_val* value = find(key);
  std::vector<std::string> out;
  if (value == nullptr) return out;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  bool good = yyjson_is_arr(value);
  yyjson_arr_foreach(value, at, count, item) {
    good = good && yyjson_is_str(item);
    if (good) out.emplace_back(yyjson_get_str(item), yyjson_get_len(item));
  }
  if (!good) wrong(key, "a list of strings");
  return out;
}

std::vector<int64_t> ConfigReader::numbers(const char* key) {
  yyjson_val* value = find(key);
  std::vector<int64_t> out;
  if (value == nullptr) return out;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  bool good = yyjson_is_arr(value);
  yyjson_arr_foreach(value, at, count, item) {
    good = good && yyjson_is_int(item) && !(yyjson_is_uint(item) && yyjson_get_uint(item) > INT64_MAX);
    if (good) out.push_back(yyjson_get_sint(item));
  }
  if (!good) wrong(key, "a list of whole numbers");
  return out;
}

bool ConfigReader::flag(const char* key, bool absent) {
  yyjson_val* value = find(key);
  if (value == nullptr) return absent;
  if (!yyjson_is_bool(value)) wrong(key, "true or false");
  return yyjson_get_bool(value);
}

int64_t ConfigReader::number(const char* key, int64_t absent) {
  yyjson_val* value = find(key);
  if (value == nullptr) return absent;
  if (!yyjson_is_int(value) || (yyjson_is_uint(value) && yyjson_get_uint(value) > INT64_MAX)) {
    wrong(key, "a whole number");
    return absent;
  }
  return yyjson_get_sint(value);
}

Result<void> ConfigReader::finish() {
  if (error_) return fail(*error_);
  size_t at = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* value = nullptr;
  yyjson_obj_foreach(root_, at, count, key, value) {
    const std::string_view name(yyjson_get_str(key), yyjson_get_len(key));
    if (known_.contains(name)) continue;
    std::string all;
    for (const std::string& k : known_) all += (all.empty() ? "" : ", ") + k;
    return fail(Code::invalid_argument,
                "unknown key \"" + std::string(name) + "\"; known: " + (all.empty() ? "none" : all));
  }
  return {};
}

}  // namespace limpet::kit
