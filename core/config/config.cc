// SPDX-License-Identifier: Apache-2.0
// Reading: TOML into the typed structs by the table of keys. toml++ stands in this file only, because it is
// heavy; for that reason the file is longer than most.
#include "config/config.h"

#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

// Without exceptions it reads on for a moment after a mistake, where its own assertions fail; a bad file must not abort
// us.
#define TOML_ASSERT(expr) static_cast<void>(0)
#include <toml++/toml.h>

#include "base/bytes.h"
#include "config/keys.h"

namespace limpet {
namespace {

constexpr size_t kFileBytes = 1u << 20;  // a configuration is a few kilobytes

Place place_of(const toml::source_region& region) { return {region.begin.line, region.begin.column}; }

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

std::string_view type_text(toml::node_type type) {
  switch (type) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    case toml::node_type::none:
      break;
  }
  return "nothing";
}

std::string_view expected_text(ValueKind kind) {
  switch (kind) {
    case ValueKind::text:
      return "a string";
    case ValueKind::boolean:
      return "a boolean";
    case ValueKind::port:
    case ValueKind::integer:
      return "an integer";
    case ValueKind::seconds:
      return "a duration such as \"90s\"";
    case ValueKind::list:
      return "an array of strings";
  }
  return "";
}

bool is_choice(std::string_view choices, std::string_view value) {
  for (size_t at = 0; at <= choices.size();) {
    const size_t end = std::min(choices.find('|', at), choices.size());
    if (choices.substr(at, end - at) == value) return true;
    at = end + 1;
  }
  return choices.empty();
}

// ---- the table `data` of a plugin, as JSON ----

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += hex_encode(BytesView(&byte, 1));
    } else {
      out += c;
    }
  }
  out += '"';
}

// False with the place of what JSON cannot hold. toml++ itself bounds how deep values nest.
bool append_json(std::string& out, const toml::node& node, Place& bad);

bool append_json_table(std::string& out, const toml::table& table, Place& bad) {
  out += '{';
  bool first = true;
  for (const auto& [key, node] : table) {
    if (!first) out += ',';
    first = false;
    append_json_string(out, key.str());
    out += ':';
    if (!append_json(out, node, bad)) return false;
  }
  out += '}';
  return true;
}

bool append_json_array(std::string& out, const toml::array& array, Place& bad) {
  out += '[';
  bool first = true;
  for (const toml::node& node : array) {
    if (!first) out += ',';
    first = false;
    if (!append_json(out, node, bad)) return false;
  }
  out += ']';
  return true;
}

bool append_json(std::string& out, const toml::node& node, Place& bad) {
  if (const auto* table = node.as_table()) return append_json_table(out, *table, bad);
  if (const auto* array = node.as_array()) return append_json_array(out, *array, bad);
  if (const auto* text = node.as_string()) {
    append_json_string(out, text->get());
  } else if (const auto* number = node.as_integer()) {
    out += std::to_string(number->get());
  } else if (const auto* flag = node.as_boolean()) {
    out += flag->get() ? "true" : "false";
  } else if (const auto* real = node.as_floating_point(); real != nullptr && std::isfinite(real->get())) {
    std::ostringstream text_of;
    text_of.precision(17);
    text_of << real->get();
    out += text_of.str();
  } else {
    bad = place_of(node.source());
    return false;
  }
  return true;
}

// ---- the tables of the roles ----

class Reader {
 public:
  Reader(Problems& problems, Places& places) : problems_(problems), places_(places) {}

  Config read(const toml::table& root) {
    Config config;
    for (const auto& [key, node] : root) {
      if (key.str() == "server") {
        role(node, key, "server", server_keys(), &config.server.emplace());
      } else if (key.str() == "agent") {
        role(node, key, "agent", agent_keys(), &config.agent.emplace());
      } else if (key.str() == "plugin") {
        plugins(node, key, config.plugins);
      } else {
        unknown(key, "the file", std::array<std::string_view, 3>{"server", "agent", "plugin"});
      }
    }
    return config;
  }

 private:
  void wrong_type(const toml::node& node, std::string_view name, std::string_view expected) {
    problems_.add(place_of(node.source()), quoted(name) + " is " + std::string(type_text(node.type())) + ", " +
                                               std::string(expected) + " is expected");
  }

  void unknown(const toml::key& key, const std::string& where, std::span<const std::string_view> known,
               std::string_view belongs = {}) {
    std::string what = "unknown key " + quoted(key.str()) + " in " + where;
    const std::string_view near = nearest(key.str(), known);
    if (!belongs.empty()) {
      what += ", it belongs to [" + std::string(belongs) + "]";
    } else if (!near.empty()) {
      what += ", did you mean " + quoted(near) + "?";
    }
    problems_.add(place_of(key.source()), what);
  }

  void role(const toml::node& node, const toml::key& key, const std::string& name, std::span<const Key> keys,
            void* config) {
    places_[name] = place_of(key.source());
    const toml::table* table = node.as_table();
    if (table == nullptr) return wrong_type(node, name, "a table");
    read_table(*table, name, "", keys, config);
  }

  // One table of a role: its keys, and its sub-tables when it is the role's own (`sub` empty).
  void read_table(const toml::table& table, const std::string& full, std::string_view sub, std::span<const Key> keys,
                  void* config) {
    for (const auto& [key, node] : table) {
      const std::string full_key = full + "." + std::string(key.str());
      if (const Key* known = find(keys, sub, key.str())) {
        places_[full_key] = place_of(key.source());
        value(node, *known, config);
      } else if (sub.empty() && has_table(keys, key.str())) {
        places_[full_key] = place_of(key.source());
        if (const toml::table* inner = node.as_table()) {
          read_table(*inner, full_key, key.str(), keys, config);
        } else {
          wrong_type(node, key.str(), "a table");
        }
      } else {
        unknown(key, "[" + full + "]", names_in(keys, sub), home_of(keys, full, sub, key.str()));
      }
    }
  }

  static const Key* find(std::span<const Key> keys, std::string_view sub, std::string_view name) {
    for (const Key& key : keys) {
      if (key.table == sub && key.name == name) return &key;
    }
    return nullptr;
  }
  static bool has_table(std::span<const Key> keys, std::string_view sub) {
    for (const Key& key : keys) {
      if (key.table == sub) return true;
    }
    return false;
  }
  static std::vector<std::string_view> names_in(std::span<const Key> keys, std::string_view sub) {
    std::vector<std::string_view> names;
    for (const Key& key : keys) {
      if (key.table == sub) names.push_back(key.name);
      if (sub.empty() && !key.table.empty()) names.push_back(key.table);
    }
    return names;
  }
  // The other table of the same role that has a key of this name.
  static std::string home_of(std::span<const Key> keys, const std::string& full, std::string_view sub,
                             std::string_view name) {
    const std::string role = full.substr(0, full.find('.'));
    for (const Key& key : keys) {
      if (key.name == name && key.table != sub) return key.table.empty() ? role : role + "." + std::string(key.table);
    }
    return {};
  }

  // ---- values ----
  void value(const toml::node& node, const Key& key, void* config) {
    void* member = key.at(config);
    bool right_type = true;
    switch (key.kind) {
      case ValueKind::text:
        right_type = text(node, key, *static_cast<std::string*>(member));
        break;
      case ValueKind::boolean:
        right_type = boolean(node, *static_cast<bool*>(member));
        break;
      case ValueKind::port:
        right_type = port(node, key, *static_cast<uint16_t*>(member));
        break;
      case ValueKind::integer:
        right_type = integer(node, key, *static_cast<int64_t*>(member));
        break;
      case ValueKind::seconds:
        right_type = seconds(node, key, *static_cast<int64_t*>(member));
        break;
      case ValueKind::list:
        right_type = list(node, key, *static_cast<std::vector<std::string>*>(member));
        break;
    }
    if (!right_type) wrong_type(node, key.name, expected_text(key.kind));
  }

  bool text(const toml::node& node, const Key& key, std::string& out) {
    const auto* found = node.as_string();
    if (found == nullptr) return false;
    out = found->get();
    if (out.find('\0') != std::string::npos) problems_.add(place_of(node.source()), quoted(key.name) + " holds a NUL");
    if (!is_choice(key.choices, out)) {
      std::string choices(key.choices.substr(0, key.choices.find("|PANIC")));
      for (size_t at = choices.find('|'); at != std::string::npos; at = choices.find('|', at + 2))
        choices.replace(at, 1, ", ");
      problems_.add(place_of(node.source()), quoted(key.name) + " is " + quoted(out) + "; known are " + choices);
    }
    return true;
  }

  static bool boolean(const toml::node& node, bool& out) {
    const auto* found = node.as_boolean();
    if (found != nullptr) out = found->get();
    return found != nullptr;
  }

  bool integer(const toml::node& node, const Key& key, int64_t& out) {
    const auto* found = node.as_integer();
    if (found == nullptr) return false;
    out = found->get();
    if (out < key.min || out > key.max) {
      problems_.add(place_of(node.source()), quoted(key.name) + " is " + std::to_string(out) + "; it must be from " +
                                                 std::to_string(key.min) + " to " + std::to_string(key.max));
      out = key.min;
    }
    return true;
  }

  bool port(const toml::node& node, const Key& key, uint16_t& out) {
    int64_t wide = out;
    const bool right_type = integer(node, key, wide);
    out = static_cast<uint16_t>(wide);
    return right_type;
  }

  bool seconds(const toml::node& node, const Key& key, int64_t& out) {
    const auto* found = node.as_string();
    if (found == nullptr) return false;
    const auto parsed = parse_duration_s(found->get());
    if (!parsed) {
      problems_.add(place_of(node.source()), quoted(key.name) + ": " + parsed.error().message);
    } else if (*parsed < key.min || *parsed > key.max) {
      problems_.add(place_of(node.source()), quoted(key.name) + " is " + quoted(found->get()) + "; it must be from " +
                                                 std::to_string(key.min) + "s to " + std::to_string(key.max) + "s");
    } else {
      out = *parsed;
    }
    return true;
  }

  bool list(const toml::node& node, const Key& key, std::vector<std::string>& out) {
    const auto* found = node.as_array();
    if (found == nullptr) return false;
    out.clear();
    for (const toml::node& element : *found) {
      const auto* item = element.as_string();
      if (item == nullptr) {
        wrong_type(element, std::string(key.name) + "[" + std::to_string(out.size()) + "]", "a string");
        return true;
      }
      out.push_back(item->get());
    }
    return true;
  }

  // ---- plugins ----
  void plugins(const toml::node& node, const toml::key& key, std::vector<PluginConfig>& out) {
    const toml::array* array = node.as_array();
    if (array == nullptr || (!array->empty() && !array->is_array_of_tables())) {
      problems_.add(place_of(key.source()), "\"plugin\" must be written as [[plugin]]");
      return;
    }
    for (const toml::node& element : *array) plugin(*element.as_table(), out);
  }

  void plugin(const toml::table& table, std::vector<PluginConfig>& out) {
    const std::string full = "plugin." + std::to_string(out.size());
    PluginConfig& config = out.emplace_back();
    places_[full] = place_of(table.source());
    config.line = static_cast<int>(table.source().begin.line);
    for (const auto& [key, node] : table) {
      if (key.str() == "data") {
        data(node, config);
      } else if (const Key* known = find(plugin_keys(), "", key.str())) {
        places_[full + "." + std::string(key.str())] = place_of(key.source());
        value(node, *known, &config);
      } else {
        auto names = names_in(plugin_keys(), "");
        names.push_back("data");
        unknown(key, "[[plugin]]", names);
      }
    }
  }

  void data(const toml::node& node, PluginConfig& config) {
    const toml::table* table = node.as_table();
    if (table == nullptr) return wrong_type(node, "data", "a table");
    config.data_json.clear();
    Place bad;
    if (!append_json_table(config.data_json, *table, bad)) {
      problems_.add(bad, "dates, times, infinities and NaN cannot be handed to a plugin: write a string");
    }
  }

  Problems& problems_;
  Places& places_;
};

}  // namespace

Result<Config> parse_config(std::string_view toml, std::string_view path, const ConfigAdjust& adjust) {
  Problems problems(path);
  if (toml.size() > kFileBytes) {
    problems.add({}, "the file is larger than " + std::to_string(kFileBytes) + " bytes");
    return fail(problems.error());
  }
  const toml::parse_result parsed = toml::parse(toml);
  if (!parsed) {
    problems.add(place_of(parsed.error().source()), parsed.error().description());
    return fail(problems.error());
  }
  Places places;
  Config config = Reader(problems, places).read(parsed.table());
  if (!problems.empty()) return fail(problems.error());
  if (adjust) TRY(adjust(config));
  check_rules(config, places, problems);
  if (!problems.empty()) return fail(problems.error());
  return config;
}

Result<Config> load_config(const std::string& path, const ConfigAdjust& adjust) {
  const auto unreadable = [&path](const char* why) {
    return fail(Code::not_found, "cannot read the configuration file " + path + ": " + why);
  };
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return unreadable(std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return unreadable("it is a folder");
  std::ifstream in(path, std::ios::binary);
  if (!in) return unreadable(std::strerror(errno));
  std::string text(kFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return parse_config(text, path, adjust);
}

}  // namespace limpet
