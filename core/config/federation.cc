// SPDX-License-Identifier: Apache-2.0
#include "config/federation.h"

#include <yyjson.h>

#include <functional>
#include <memory>

#include "config/federation_read.h"
#include "spiffe/bundle_url.h"
#include "spiffe/id.h"

namespace limpet {
namespace {

constexpr int64_t kLongestHint = 30 * 24 * 3600;
constexpr int64_t kLongestSync = 7 * 24 * 3600;

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

class Reader {
 public:
  Reader(const std::string& own, const Places& places, Problems& problems)
      : own_(own), places_(places), problems_(problems) {}

  void read(yyjson_val* root, FederationConfig& out) {
    each(root, "server.federation", [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (key == "bundle_endpoint") {
        endpoint(value, path, out.bundle_endpoint.emplace());
      } else if (key == "federates_with") {
        each(value, path, [&](const std::string& inner, std::string_view name, yyjson_val* one) {
          relationship(one, inner, name, out.federates_with.emplace_back());
        });
      } else {
        unknown(path, key, std::array<std::string_view, 2>{"bundle_endpoint", "federates_with"});
      }
    });
  }

 private:
  using Visit = std::function<void(const std::string& path, std::string_view key, yyjson_val* value)>;

  void at(const std::string& path, std::string_view what) {
    const auto found = places_.find(path);
    problems_.add(found == places_.end() ? Place{} : found->second, what);
  }
  void each(yyjson_val* table, const std::string& path, const Visit& visit) {
    if (!yyjson_is_obj(table)) return at(path, quoted(path.substr(path.rfind('.') + 1)) + " must be a table");
    size_t index = 0;
    size_t count = 0;
    yyjson_val* key = nullptr;
    yyjson_val* value = nullptr;
    yyjson_obj_foreach(table, index, count, key, value) {
      const std::string name(yyjson_get_str(key), yyjson_get_len(key));
      visit(path + "." + name, name, value);
    }
  }
  void unknown(const std::string& path, std::string_view key, std::span<const std::string_view> known) {
    const std::string table = path.substr(0, path.size() - key.size() - 1);
    std::string what = "unknown key " + quoted(key) + " in [" + table + "]";
    if (const std::string_view near = nearest(key, known); !near.empty())
      what += ", did you mean " + quoted(near) + "?";
    at(path, what);
  }

  void text(yyjson_val* value, const std::string& path, std::string& out) {
    if (!yyjson_is_str(value)) return at(path, quoted(path.substr(path.rfind('.') + 1)) + " must be a string");
    out.assign(yyjson_get_str(value), yyjson_get_len(value));
    if (out.find('\0') != std::string::npos) at(path, "holds a NUL");
  }
  void seconds(yyjson_val* value, const std::string& path, int64_t most, int64_t& out) {
    const std::string name = quoted(path.substr(path.rfind('.') + 1));
    std::string typed;
    if (!yyjson_is_str(value)) return at(path, name + " must be a duration such as \"90s\"");
    text(value, path, typed);
    const auto parsed = parse_duration_s(typed);
    if (!parsed) return at(path, name + ": " + parsed.error().message);
    if (*parsed < 1 || *parsed > most) {
      return at(path, name + " is " + quoted(typed) + "; it must be from 1s to " + std::to_string(most) + "s");
    }
    out = *parsed;
  }

  void endpoint(yyjson_val* table, const std::string& full, BundleEndpointConfig& out) {
    each(table, full, [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (key == "address") {
        text(value, path, out.address);
      } else if (key == "port") {
        if (!yyjson_is_uint(value) || yyjson_get_uint(value) < 1 || yyjson_get_uint(value) > 65'535) {
          return at(path, "\"port\" must be an integer from 1 to 65535");
        }
        out.port = static_cast<uint16_t>(yyjson_get_uint(value));
      } else if (key == "refresh_hint") {
        seconds(value, path, kLongestHint, out.refresh_hint_s);
      } else if (key == "profile") {
        profile(value, path, out.profile,
                [&](const std::string& inner, yyjson_val* body) { endpoint_profile(body, inner, out); });
      } else if (key == "acme") {
        at(path, kNoAcme);
      } else {
        unknown(path, key, std::array<std::string_view, 4>{"address", "port", "refresh_hint", "profile"});
      }
    });
    if (out.profile.empty() && problems_.empty()) {
      at(full, "\"profile\" is required in [" + full + "]: write [" + full + ".profile.https_spiffe], or [" + full +
                   ".profile.https_web.serving_cert_file] with a certificate and key");
    }
  }

  // A table with the one key https_web or https_spiffe.
  void profile(yyjson_val* table, const std::string& full, std::string& out,
               const std::function<void(const std::string& path, yyjson_val* body)>& body) {
    each(table, full, [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (key != "https_web" && key != "https_spiffe") {
        return unknown(path, key, std::array<std::string_view, 2>{"https_web", "https_spiffe"});
      }
      if (!out.empty()) return at(path, "\"https_web\" and \"https_spiffe\" exclude each other: keep one");
      out = key;
      body(path, value);
    });
    if (out.empty() && yyjson_is_obj(table))
      at(full, "\"https_web\" or \"https_spiffe\" is required in [" + full + "]");
  }

  void endpoint_profile(yyjson_val* body, const std::string& full, BundleEndpointConfig& out) {
    each(body, full, [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (key == "acme") return at(path, kNoAcme);
      if (out.profile != "https_web" || key != "serving_cert_file") {
        return unknown(path, key, std::array<std::string_view, 1>{"serving_cert_file"});
      }
      serving_files(value, path, out);
    });
    if (out.profile == "https_web" && problems_.empty() && (out.cert_file_path.empty() || out.key_file_path.empty())) {
      at(full, "\"serving_cert_file\" with \"cert_file_path\" and \"key_file_path\" is required in [" + full + "]");
    }
  }
  void serving_files(yyjson_val* table, const std::string& full, BundleEndpointConfig& out) {
    each(table, full, [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (key == "cert_file_path") {
        text(value, path, out.cert_file_path);
      } else if (key == "key_file_path") {
        text(value, path, out.key_file_path);
      } else if (key == "file_sync_interval") {
        seconds(value, path, kLongestSync, out.file_sync_interval_s);
      } else {
        unknown(path, key, std::array<std::string_view, 3>{"cert_file_path", "key_file_path", "file_sync_interval"});
      }
    });
  }

  void relationship(yyjson_val* table, const std::string& full, std::string_view name, FederatesWithConfig& out) {
    if (const auto parsed = TrustDomain::parse(name); !parsed) {
      at(full, quoted(name) + " in \"federates_with\" is not a trust domain: " + parsed.error().message);
    } else {
      out.trust_domain = parsed->name();
      if (out.trust_domain == own_) at(full, "the server cannot federate with its own trust domain " + quoted(name));
    }
    each(table, full, [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (key == "bundle_endpoint_url") {
        text(value, path, out.bundle_endpoint_url);
      } else if (key == "bundle_endpoint_profile") {
        profile(value, path, out.profile,
                [&](const std::string& inner, yyjson_val* body) { relationship_profile(body, inner, out); });
      } else {
        unknown(path, key, std::array<std::string_view, 2>{"bundle_endpoint_url", "bundle_endpoint_profile"});
      }
    });
    if (!problems_.empty()) return;
    if (const auto good = check_bundle_url(out.bundle_endpoint_url); !good) at(full, good.error().message);
    if (out.profile.empty()) {
      at(full, "\"bundle_endpoint_profile\" is required in [" + full +
                   "]: { https_web = {} } or { https_spiffe = { endpoint_spiffe_id = \"spiffe://...\" } }");
    }
  }
  void relationship_profile(yyjson_val* body, const std::string& full, FederatesWithConfig& out) {
    each(body, full, [&](const std::string& path, std::string_view key, yyjson_val* value) {
      if (out.profile != "https_spiffe" || key != "endpoint_spiffe_id") {
        return unknown(path, key, std::array<std::string_view, 1>{"endpoint_spiffe_id"});
      }
      text(value, path, out.endpoint_spiffe_id);
    });
    if (out.profile != "https_spiffe") return;
    if (const auto id = SpiffeId::parse(out.endpoint_spiffe_id); !id) {
      at(full, "\"endpoint_spiffe_id\" is " + quoted(out.endpoint_spiffe_id) + ": " + id.error().message);
    }
  }

  static constexpr const char* kNoAcme =
      "\"acme\" is not supported: this server does not order certificates. Name a certificate and key in "
      "\"serving_cert_file\"; both are read again when they change, so that any ACME client may renew them";

  const std::string& own_;
  const Places& places_;
  Problems& problems_;
};

std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

void read_federation(std::string_view json, const std::string& own_trust_domain, const Places& places,
                     Problems& problems, FederationConfig& out) {
  const std::unique_ptr<yyjson_doc, decltype(&yyjson_doc_free)> doc(
      yyjson_read(json.data(), json.size(), YYJSON_READ_NOFLAG), &yyjson_doc_free);
  if (doc == nullptr) return problems.add({}, "[server.federation] cannot be read");
  Reader(own_trust_domain, places, problems).read(yyjson_doc_get_root(doc.get()), out);
}

std::string federation_to_toml(const FederationConfig& config) {
  std::string out;
  if (config.bundle_endpoint) {
    const BundleEndpointConfig& endpoint = *config.bundle_endpoint;
    const std::string name = "server.federation.bundle_endpoint";
    out += "\n[" + name + "]\naddress = " + toml_text(endpoint.address) + "\nport = " + std::to_string(endpoint.port) +
           "\nrefresh_hint = \"" + std::to_string(endpoint.refresh_hint_s) + "s\"\n";
    if (endpoint.profile == "https_spiffe") {
      out += "\n[" + name + ".profile.https_spiffe]\n";
    } else {
      out += "\n[" + name +
             ".profile.https_web.serving_cert_file]\ncert_file_path = " + toml_text(endpoint.cert_file_path) +
             "\nkey_file_path = " + toml_text(endpoint.key_file_path) + "\nfile_sync_interval = \"" +
             std::to_string(endpoint.file_sync_interval_s) + "s\"\n";
    }
  }
  for (const FederatesWithConfig& one : config.federates_with) {
    out += "\n[server.federation.federates_with." + toml_text(one.trust_domain) +
           "]\nbundle_endpoint_url = " + toml_text(one.bundle_endpoint_url) + "\nbundle_endpoint_profile = ";
    out += one.profile == "https_web"
               ? "{ https_web = {} }\n"
               : "{ https_spiffe = { endpoint_spiffe_id = " + toml_text(one.endpoint_spiffe_id) + " } }\n";
  }
  return out;
}

}  // namespace limpet
