// SPDX-License-Identifier: Apache-2.0
// The effective configuration as TOML, defaults included, from the same table of keys. A join token is a secret and is
// printed as "(set)", and so is what a plugin's data has under the name of a secret.
#include <yyjson.h>

#include <algorithm>
#include <memory>

#include "base/bytes.h"
#include "config/config.h"
#include "config/federation_read.h"
#include "config/keys.h"

namespace limpet {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00" + hex_encode(BytesView(&byte, 1));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string key_text(std::string_view key) {
  const bool bare =
      !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
                          std::string_view::npos;
  return bare ? std::string(key) : quoted(key);
}

std::string duration(int64_t seconds) {
  if (seconds == 0) return "\"0s\"";
  std::string out = "\"";
  if (seconds >= 3600) out += std::to_string(seconds / 3600) + "h";
  if (seconds % 3600 >= 60) out += std::to_string(seconds % 3600 / 60) + "m";
  if (seconds % 60 != 0) out += std::to_string(seconds % 60) + "s";
  return out + "\"";
}

std::string list(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? ", " : "") + quoted(item);
  return out + "]";
}

std::string value(const Key& key, void* config) {
  void* member = key.at(config);
  switch (key.kind) {
    case ValueKind::text:
      return quoted(*static_cast<std::string*>(member));
    case ValueKind::boolean:
      return *static_cast<bool*>(member) ? "true" : "false";
    case ValueKind::port:
      return std::to_string(*static_cast<uint16_t*>(member));
    case ValueKind::integer:
      return std::to_string(*static_cast<int64_t*>(member));
    case ValueKind::seconds:
      return duration(*static_cast<int64_t*>(member));
    case ValueKind::list:
      return list(*static_cast<std::vector<std::string>*>(member));
  }
  return {};
}

// An empty text that may not be written out: its key has choices, and leaving it out says the same.
bool left_out(const Key& key, void* config) {
  return key.kind == ValueKind::text && !key.choices.empty() && static_cast<std::string*>(key.at(config))->empty();
}

void keys_of(std::string& out, std::string_view table, std::span<const Key> keys, void* config) {
  for (const Key& key : keys) {
    if (key.table != table || left_out(key, config)) continue;
    out += std::string(key.name) + " = " + value(key, config) + "\n";
  }
}

void role(std::string& out, const std::string& name, std::span<const Key> keys, void* config) {
  out += "[" + name + "]\n";
  keys_of(out, "", keys, config);
  std::vector<std::string_view> done;
  for (const Key& key : keys) {
    if (key.table.empty() || std::ranges::find(done, key.table) != done.end()) continue;
    done.push_back(key.table);
    out += "\n[" + name + "." + std::string(key.table) + "]\n";
    keys_of(out, key.table, keys, config);
  }
  out += "\n";
}

// devid_password, pin: the last word of the key. (A "token" is also the name of a piece of hardware.)
bool is_secret(std::string_view key) {
  constexpr std::string_view kWords[] = {"password", "passphrase", "passwd", "pin", "secret"};
  const size_t last = key.find_last_of("_-");
  const std::string_view word = last == std::string_view::npos ? key : key.substr(last + 1);
  return std::ranges::find(kWords, word) != std::end(kWords);
}

bool is_empty(yyjson_val* value) { return yyjson_is_str(value) && yyjson_get_len(value) == 0; }

// A plugin's data came from TOML, so it is small and shallow.
std::string json_value(yyjson_val* value) {
  if (yyjson_is_str(value)) return quoted({yyjson_get_str(value), yyjson_get_len(value)});
  if (yyjson_is_bool(value)) return yyjson_get_bool(value) ? "true" : "false";
  std::string out;
  size_t index = 0;
  size_t count = 0;
  if (yyjson_is_arr(value)) {
    yyjson_val* item = nullptr;
    yyjson_arr_foreach(value, index, count, item) { out += (out.empty() ? "" : ", ") + json_value(item); }
    return "[" + out + "]";
  }
  if (yyjson_is_obj(value)) {
    yyjson_val* key = nullptr;
    yyjson_val* item = nullptr;
    yyjson_obj_foreach(value, index, count, key, item) {
      const std::string_view name(yyjson_get_str(key), yyjson_get_len(key));
      out += (out.empty() ? "" : ", ") + key_text(name) + " = " +
             (is_secret(name) && !is_empty(item) ? quoted("(set)") : json_value(item));
    }
    return "{" + out + "}";
  }
  const std::unique_ptr<char, decltype(&std::free)> number(yyjson_val_write(value, 0, nullptr), &std::free);
  return number ? number.get() : "0";
}

void plugin(std::string& out, const PluginConfig& source) {
  PluginConfig config = source;
  out += "[[plugin]]\n";
  keys_of(out, "", plugin_keys(), &config);
  const std::unique_ptr<yyjson_doc, decltype(&yyjson_doc_free)> data(
      yyjson_read(config.data_json.data(), config.data_json.size(), 0), &yyjson_doc_free);
  if (data && yyjson_obj_size(yyjson_doc_get_root(data.get())) > 0) {
    out += "data = " + json_value(yyjson_doc_get_root(data.get())) + "\n";
  }
  out += "\n";
}

}  // namespace

std::string config_to_toml(const Config& config) {
  Config copy = config;
  std::string out;
  if (copy.server) {
    role(out, "server", server_keys(), &*copy.server);
    if (const std::string federation = federation_to_toml(copy.server->federation); !federation.empty()) {
      out += federation.substr(1) + "\n";
    }
  }
  if (copy.agent) {
    if (!copy.agent->join_token.empty()) copy.agent->join_token = "(set)";
    role(out, "agent", agent_keys(), &*copy.agent);
  }
  for (const PluginConfig& p : copy.plugins) plugin(out, p);
  while (out.ends_with("\n\n")) out.pop_back();
  return out;
}

}  // namespace limpet
