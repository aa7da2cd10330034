// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_x509pop/settings.h"

#include "kit/kit.h"
#include "kit/pem_files.h"

namespace limpet::x509pop {
namespace {

constexpr const char* kPkiTemplate = "/{{ .PluginName }}/{{ .Fingerprint }}";
constexpr const char* kSpiffeTemplate = "/{{ .PluginName }}/{{ .SVIDPathTrimmed }}";
constexpr const char* kDefaultPrefix = "/spire-exchange/";
constexpr int64_t kMaxIntermediates = 16;
constexpr int64_t kMaxRsaBits = 8192;  // what crypto::PublicKey takes at most

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<size_t> bounded(int64_t value, int64_t most, const char* key) {
  if (value < 0 || value > most) return invalid(std::string(key) + " must be between 0 and " + std::to_string(most));
  return static_cast<size_t>(value);
}

Result<std::vector<Certificate>> load_roots(const std::vector<std::string>& paths) {
  std::vector<Certificate> roots;
  for (const std::string& file : paths) {
    auto more = kit::read_certificates(file);
    if (!more) return invalid("unable to load trust bundle: " + more.error().message);
    for (Certificate& root : *more) roots.push_back(std::move(root));
  }
  return roots;
}

// The two modes exclude each other's keys.
struct ModeKeys {
  std::string mode;
  std::string path;
  std::vector<std::string> paths;
  bool has_spiffe_prefix;
  bool has_svid_prefix;
  std::string spiffe_prefix;
  std::string svid_prefix;
};

Result<void> read_pki(Settings& out, ModeKeys& keys) {
  if (keys.has_spiffe_prefix || keys.has_svid_prefix) return invalid("spiffe_prefix needs mode = \"spiffe\"");
  if (!keys.path.empty() && !keys.paths.empty())
    return invalid("only one of ca_bundle_path or ca_bundle_paths can be configured, not both");
  if (!keys.path.empty()) keys.paths.push_back(keys.path);
  if (keys.paths.empty()) return invalid("one of ca_bundle_path or ca_bundle_paths must be configured");
  TRY_ASSIGN(out.roots, load_roots(keys.paths));
  return {};
}

// SPIRE reads spiffe_prefix and documents svid_prefix: both are taken.
Result<void> read_spiffe(Settings& out, const ModeKeys& keys) {
  out.spiffe = true;
  if (!keys.path.empty() || !keys.paths.empty())
    return invalid(
        "ca_bundle_path and ca_bundle_paths cannot be used with mode = \"spiffe\": its roots are the server's own");
  if (keys.has_spiffe_prefix && keys.has_svid_prefix && keys.spiffe_prefix != keys.svid_prefix)
    return invalid("spiffe_prefix and svid_prefix are the same key and differ; set one");
  out.prefix = keys.has_spiffe_prefix ? keys.spiffe_prefix : keys.has_svid_prefix ? keys.svid_prefix : kDefaultPrefix;
  if (!out.prefix.ends_with("/")) out.prefix += "/";
  if (!out.prefix.starts_with("/"))
    return invalid("spiffe_prefix \"" + out.prefix + "\" must start with \"/\", as the path of an ID does");
  return {};
}

}  // namespace

Result<Settings> read_settings(const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Settings out;
  out.trust_domain = kit::view(config.trust_domain);
  ModeKeys keys{reader.text("mode"),         reader.text("ca_bundle_path"), reader.texts("ca_bundle_paths"),
                reader.has("spiffe_prefix"), reader.has("svid_prefix"),     reader.text("spiffe_prefix"),
                reader.text("svid_prefix")};
  const std::string path = reader.text("agent_path_template");
  out.verify_client_ip = reader.flag("verify_client_ip", false);
  const int64_t intermediates = reader.number("max_intermediates", 4);
  const int64_t rsa_bits = reader.number("max_rsa_key_size", kMaxRsaBits);
  TRY(reader.finish());
  if (keys.mode == "spiffe") {
    TRY(read_spiffe(out, keys));
    TRY_ASSIGN(out.path, kit::PathTemplate::parse(path.empty() ? kSpiffeTemplate : path,
                                                  {"PluginName", "TrustDomain", "Fingerprint", "SerialNumberHex",
                                                   "Subject.CommonName", "SVIDPathTrimmed"}));
  } else if (keys.mode.empty() || keys.mode == "external_pki") {
    TRY(read_pki(out, keys));
    TRY_ASSIGN(out.path,
               kit::PathTemplate::parse(path.empty() ? kPkiTemplate : path, {"PluginName", "TrustDomain", "Fingerprint",
                                                                             "SerialNumberHex", "Subject.CommonName"}));
  } else {
    return invalid("mode must be \"external_pki\" or \"spiffe\", not \"" + keys.mode + "\"");
  }
  TRY_ASSIGN(out.max_intermediates, bounded(intermediates, kMaxIntermediates, "max_intermediates"));
  TRY_ASSIGN(const size_t bits, bounded(rsa_bits, kMaxRsaBits, "max_rsa_key_size"));
  out.max_rsa_bits = static_cast<uint32_t>(bits);
  return out;
}

}  // namespace limpet::x509pop
