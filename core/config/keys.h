// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one table of keys from which the configuration is read, checked and printed. Internal to config/. Constant data,
// any thread.
//
// Words: a *table* is a TOML table ("server", "server.ratelimit"); a *key* stands in it; a *place* is line and column.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace limpet {

// What a key holds, and so the member it is kept in: text std::string, boolean bool, port uint16_t, integer and seconds
// int64_t (seconds are written as a Go duration), list std::vector<std::string>.
enum class ValueKind { text, boolean, port, integer, seconds, list };

struct Key {
  std::string_view table;  // within the role: "", "ratelimit" or "telemetry.Prometheus"
  std::string_view name;   // "bind_port"
  ValueKind kind;
  void* (*at)(void* config);      // the member, of a ServerConfig, AgentConfig or PluginConfig
  std::string_view choices = {};  // of a text: "pem|spiffe"; empty: anything
  bool required = false;
  int64_t min = 0;  // of an integer, a port or seconds
  int64_t max = 0;  // 0: what the member holds
};

std::span<const Key> server_keys();
std::span<const Key> agent_keys();
std::span<const Key> plugin_keys();  // without `data`, which is a table of the plugin's own

// Whether `value` is one of the `choices` of a key ("pem|spiffe"; none: anything is), and they as an error says them:
// "pem, spiffe".
bool is_choice(std::string_view choices, std::string_view value);
std::string choice_list(std::string_view choices);

// Tables in tables: the name within the role of the table `name` in `sub`, and whether a key or a table stands in it.
std::string table_within(std::string_view sub, std::string_view name);
bool has_table(std::span<const Key> keys, std::string_view table);

// The name in `known` that is nearest to `typed` by edit distance, or empty when none is near.
std::string_view nearest(std::string_view typed, std::span<const std::string_view> known);

struct Place {
  uint32_t line = 0;
  uint32_t column = 0;
};
// Where each key stands that the file has: "server.bind_port", "plugin.0.name"; tables too.
using Places = std::map<std::string, Place, std::less<>>;

// Collects what is wrong, so that one run names every mistake.
class Problems {
 public:
  explicit Problems(std::string_view path) : path_(path) {}
  void add(Place place, std::string_view what);
  [[nodiscard]] bool empty() const { return lines_.empty(); }
  // INVALID_ARGUMENT; one line a problem, in the order of the file, at most 20.
  [[nodiscard]] Error error() const;

 private:
  struct Line {
    Place place;
    std::string text;
  };
  std::string path_;
  std::vector<Line> lines_;
};

// What needs more than one key, or the grammar of a value.
void check_rules(const Config& config, const Places& places, Problems& problems);

// What is wrong with [server.oidc_discovery].
struct Mistake {
  std::string key;  // "oidc_discovery.domains"
  std::string what;
};
std::vector<Mistake> oidc_mistakes(const ServerConfig& config);

}  // namespace limpet
