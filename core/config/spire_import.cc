// SPDX-License-Identifier: Apache-2.0
#include "config/spire_import.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "config/hcl.h"
#include "config/keys.h"
#include "config/spire_keys.h"

namespace limpet {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') out += '\\';
    if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00" + hex_encode(BytesView(&byte, 1));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

bool is_integer(std::string_view text) {
  return !text.empty() && text.size() < 19 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// A value as it stands, in one line; tables inline. Depth is bounded by the reader.
std::string inline_toml(const HclValue& value) {
  switch (value.kind) {
    case HclValue::Kind::text:
      return quoted(value.text);
    case HclValue::Kind::number:
    case HclValue::Kind::boolean:
      return value.text;
    case HclValue::Kind::list:
    case HclValue::Kind::object:
      break;
  }
  const bool list = value.kind == HclValue::Kind::list;
  std::string out;
  for (size_t i = 0; i < value.items.size(); ++i) {
    out += out.empty() ? "" : ", ";
    if (!list) out += quoted(value.keys[i]) + " = ";
    out += inline_toml(value.items[i]);
  }
  return list ? "[" + out + "]" : out.empty() ? "{}" : "{ " + out + " }";
}

// A value as a key of this kind holds it. HCL takes "8081" for a number and "true" for a boolean, so it is taken here.
std::string toml_for(const HclValue& value, ValueKind kind) {
  const bool text = value.kind == HclValue::Kind::text;
  const bool scalar = value.kind != HclValue::Kind::list && value.kind != HclValue::Kind::object;
  switch (kind) {
    case ValueKind::text:
    case ValueKind::seconds:
      return scalar ? quoted(value.text) : inline_toml(value);
    case ValueKind::boolean:
      return text && (value.text == "true" || value.text == "false") ? value.text : inline_toml(value);
    case ValueKind::port:
    case ValueKind::integer:
      return text && is_integer(value.text) ? value.text : inline_toml(value);
    case ValueKind::list:
      return scalar ? "[" + quoted(value.text) + "]" : inline_toml(value);
  }
  return {};
}

// Calls for each object that stands here: JSON writes blocks as lists of objects.
template <class Visit>
void each_object(const HclValue& value, const Visit& visit) {
  if (value.kind == HclValue::Kind::object) visit(value);
  if (value.kind == HclValue::Kind::list) {
    for (const HclValue& item : value.items) {
      if (item.kind == HclValue::Kind::object) visit(item);
    }
  }
}

class Importer {
 public:
  Result<ImportedConfig> run(const HclValue& root) {
    if (root.find("server") == nullptr && root.find("agent") == nullptr) {
      return fail(Code::invalid_argument,
                  "line 1: neither a server block nor an agent block: not SPIRE's configuration");
    }
    both_ = root.find("server") != nullptr && root.find("agent") != nullptr;
    for (const std::string_view role : {"server", "agent"}) {
      if (const HclValue* block = root.find(role); block != nullptr) this->role(role, root, *block);
    }
    for (size_t i = 0; i < root.keys.size(); ++i) rest(root, root.keys[i], root.items[i]);
    for (auto& [section, keys] : unknown_) out_.unknown.push_back({section, keys});
    std::ranges::stable_sort(out_.notes, {}, &ImportNote::line);
    return std::move(out_);
  }

 private:
  using Tables = std::map<std::string, std::string>;  // "": the role's own

  void note(uint32_t line, std::string key, std::string_view reason) {
    out_.notes.push_back({line, std::move(key), std::string(reason)});
  }
  void unknown(const std::string& section, const std::string& key, uint32_t line, const std::string& full) {
    std::string& keys = unknown_[section];
    keys += (keys.empty() ? "" : ",") + key;
    note(line, full, "SPIRE does not know it either");
  }

  // ---- the blocks of the roles ----
  void role(std::string_view name, const HclValue& root, const HclValue& block) {
    const std::span<const Key> keys = name == "server" ? server_keys() : agent_keys();
    Tables tables;
    each_object(block, [&](const HclValue& object) { table(name, "", keys, object, tables); });
    for (const std::string_view shared : {"health_checks", "telemetry"}) {
      const HclValue* found = root.find(shared);
      if (found == nullptr || !has_table(keys, shared)) continue;
      each_object(*found, [&](const HclValue& object) { table(name, shared, keys, object, tables); });
    }
    out_.toml += (out_.toml.empty() ? "[" : "\n[") + std::string(name) + "]\n" + tables[""];
    for (const auto& [sub, lines] : tables) {
      if (!sub.empty()) out_.toml += "\n[" + std::string(name) + "." + sub + "]\n" + lines;
    }
  }

  void table(std::string_view role, std::string_view sub, std::span<const Key> keys, const HclValue& object,
             Tables& out) {
    for (size_t i = 0; i < object.keys.size(); ++i) {
      const std::string& name = object.keys[i];
      const HclValue& value = object.items[i];
      const auto known = std::ranges::find_if(keys, [&](const Key& k) { return k.table == sub && k.name == name; });
      if (known != keys.end()) {
        out[std::string(sub)] += name + " = " + toml_for(value, known->kind) + "\n";
      } else if (sub.empty() && role == "server" && name == "federation") {
        federation(value, out);
      } else if (const std::string within = table_within(sub, name); has_table(keys, within)) {
        each_object(value, [&](const HclValue& inner) { table(role, within, keys, inner, out); });
      } else {
        without_counterpart(role, sub, name, value);
      }
    }
  }
  void without_counterpart(std::string_view role, std::string_view sub, const std::string& name,
                           const HclValue& value) {
    const std::string full = std::string(role) + "." + (sub.empty() ? "" : std::string(sub) + ".") + name;
    for (const SpireKey& key : spire_keys()) {
      const bool whole = sub.empty() && key.table == name && (key.name == "*" || key.table == "experimental");
      if ((key.role.empty() || key.role == role) && (whole || (key.table == sub && key.name == name))) {
        return note(value.line, full, key.reason);
      }
    }
    // SPIRE passes over unknown keys here and does not say so
    if (sub.starts_with("experimental") || sub.starts_with("telemetry"))
      return note(value.line, full, "SPIRE does not know it either");
    unknown(sub == "health_checks" ? "health check" : std::string(role), name, value.line, full);
  }

  // Its tables are SPIRE's own; certificates by ACME are not obtained here.
  void federation(const HclValue& value, Tables& out) {
    each_object(value, [&](const HclValue& object) {
      HclValue copy = object;
      for (size_t i = 0; i < copy.keys.size(); ++i) {
        if (copy.keys[i] == "bundle_endpoint") drop_acme(copy.items[i]);
      }
      out[""] += "federation = " + inline_toml(copy) + "\n";
    });
  }
  void drop_acme(HclValue& object) {
    for (size_t i = object.keys.size(); i-- > 0;) {
      if (object.keys[i] == "acme") {
        note(object.items[i].line, "server.federation.bundle_endpoint.acme",
             "certificates are not obtained by ACME: write serving_cert_file with the files another client renews");
        object.keys.erase(object.keys.begin() + static_cast<std::ptrdiff_t>(i));
        object.items.erase(object.items.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        drop_acme(object.items[i]);
      }
    }
  }

  // ---- beside the roles ----
  void rest(const HclValue& root, const std::string& name, const HclValue& value) {
    const auto mapped = [&](std::string_view role, std::span<const Key> keys) {
      return root.find(role) != nullptr && has_table(keys, name);
    };
    if (name == "plugins") {
      each_object(value, [&](const HclValue& types) {
        for (size_t i = 0; i < types.keys.size(); ++i) plugin_type(root, types.keys[i], types.items[i]);
      });
    } else if (name == "telemetry" || name == "health_checks") {
      if (!mapped("server", server_keys()) && !mapped("agent", agent_keys())) {
        note(value.line, name, "this version has no counterpart");
      }
    } else if (name != "server" && name != "agent") {
      unknown("top-level", name, value.line, name);
    }
  }

  void plugin_type(const HclValue& root, const std::string& type, const HclValue& names) {
    each_object(names, [&](const HclValue& object) {
      for (size_t i = 0; i < object.keys.size(); ++i) {
        const std::string& name = object.keys[i];
        each_object(object.items[i], [&](const HclValue& block) { plugin(root, type, name, block); });
      }
    });
  }

  static std::string_view no_plugin(std::string_view type, std::string_view name, const HclValue& block) {
    for (const SpirePlugin& known : spire_plugins()) {
      if (known.type == type && (known.name.empty() || known.name == name)) return known.reason;
    }
    const auto keys = plugin_keys();
    const auto types = std::ranges::find(keys, std::string_view("type"), &Key::name);
    if (!is_choice(types->choices, type)) return "there are no plugins of this type";
    const HclValue* command = block.find("plugin_cmd");
    if (command != nullptr && !command->text.empty()) {
      return "a program that speaks SPIRE's plugin protocol cannot be loaded: a plugin is a shared object, see path";
    }
    return {};
  }

  void plugin(const HclValue& root, const std::string& type, const std::string& name, const HclValue& block) {
    const std::string full = "plugins." + type + "." + name;
    if (const std::string_view reason = no_plugin(type, name, block); !reason.empty()) {
      return note(block.line, full, reason);
    }
    for (const LoadablePlugin& known : loadable_plugins()) {
      if (known.type == type && known.name == name)
        note(block.line, full, "it is not built in: add path and sha256 of " + std::string(known.file));
    }
    out_.toml += "\n[[plugin]]\ntype = " + quoted(type) + "\nname = " + quoted(name) + "\n";
    if (!both_) out_.toml += root.find("server") != nullptr ? "role = \"server\"\n" : "role = \"agent\"\n";
    for (size_t i = 0; i < block.keys.size(); ++i) {
      const std::string& key = block.keys[i];
      const HclValue& value = block.items[i];
      if (key == "enabled") {
        out_.toml += "enabled = " + toml_for(value, ValueKind::boolean) + "\n";
      } else if (key == "plugin_data") {
        each_object(value, [&](const HclValue& data) { out_.toml += "data = " + inline_toml(data) + "\n"; });
      } else if (key == "plugin_data_file") {
        note(value.line, full + ".plugin_data_file", "a plugin's data stands in the configuration, in its table data");
      } else if (key == "plugin_cmd" || key == "plugin_args" || key == "plugin_checksum") {
        note(value.line, full + "." + key, "it belongs to an external plugin, and this one is built in");
      } else {
        unknown("plugin", key, value.line, full + "." + key);
      }
    }
  }

  bool both_ = false;
  ImportedConfig out_;
  std::map<std::string, std::string> unknown_;
};

}  // namespace

Result<ImportedConfig> import_spire(std::string_view text) {
  TRY_ASSIGN(const HclValue root, parse_hcl(text));
  return Importer().run(root);
}

}  // namespace limpet
