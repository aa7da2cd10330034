// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm/settings.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/errno_text.h"
#include "kit/kit.h"
#include "kit/pem_files.h"

namespace limpet::tpm_attestor {
namespace {

constexpr size_t kMaxFiles = 1000;
constexpr size_t kMaxFileBytes = 1u << 20;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

bool is_directory(const std::string& path) {
  struct stat info = {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// The files of a directory without those in further directories, sorted.
Result<std::vector<std::string>> files_in(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return invalid(path + ": cannot be opened: " + errno_text(errno));
  std::vector<std::string> out;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string file = path + "/" + entry->d_name;
    if (entry->d_name[0] != '.' && !is_directory(file)) out.push_back(file);
    if (out.size() > kMaxFiles) break;
  }
  ::closedir(directory);
  if (out.size() > kMaxFiles) return invalid(path + ": more than 1,000 files");
  std::ranges::sort(out);
  return out;
}

// PEM, any number of certificates, or one in DER.
Result<void> load_authorities(std::vector<Certificate>& out, const std::string& path) {
  auto text = kit::read_file(path, kMaxFileBytes);
  if (!text) return invalid(text.error().message);
  if (!text->contains("-----BEGIN ")) {
    auto certificate = Certificate::parse(as_bytes(*text));
    if (!certificate) return invalid(path + ": neither PEM nor DER: " + certificate.error().message);
    out.push_back(std::move(*certificate));
    return {};
  }
  auto more = kit::read_certificates(path);
  if (!more) return invalid(more.error().message);
  for (Certificate& certificate : *more) out.push_back(std::move(certificate));
  return {};
}

}  // namespace

Result<Settings> read_settings(const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Settings out;
  const std::string ca_path = reader.text("ca_path");
  out.hash_path = reader.text("hash_path");
  out.require_enrollment = reader.flag("require_enrollment", false);
  out.policy_path = reader.text("pcr_policy_path");
  out.require_policy = reader.flag("require_pcr_policy", false);
  out.event_log = reader.flag("event_log", false);
  TRY(reader.finish());
  if (!out.hash_path.empty() && !is_directory(out.hash_path))
    return invalid("hash_path " + out.hash_path + " is not a directory");
  if (out.require_policy && out.policy_path.empty()) return invalid("require_pcr_policy needs pcr_policy_path");
  if (!out.policy_path.empty()) {
    auto policies = read_policies(out.policy_path);
    if (!policies) return invalid("pcr_policy_path: " + policies.error().message);
    out.policies = std::move(*policies);
  }
  if (out.require_policy && out.policies.empty())
    return invalid("require_pcr_policy: " + out.policy_path + " names no policy, so that no agent could attest");
  if (ca_path.empty()) return out;
  TRY_ASSIGN_WITHIN("ca_path", const std::vector<std::string> files, files_in(ca_path));
  for (const std::string& file : files) TRY_WITHIN("ca_path", load_authorities(out.authorities, file));
  if (out.authorities.empty()) return invalid("ca_path " + ca_path + ": no certificate in it");
  return out;
}

}  // namespace limpet::tpm_attestor
