// SPDX-License-Identifier: Apache-2.0
#include "kit/pem_files.h"

#include <cerrno>
#include <cstdio>

#include "base/errno_text.h"
#include "base/limits.h"

namespace limpet::kit {
namespace {

constexpr size_t kMaxPemBytes = 1u << 20;

std::unexpected<Error> bad(const std::string& path, const std::string& why) {
  return fail(Code::failed_precondition, path + ": " + why);
}

}  // namespace

Result<std::string> read_file(const std::string& path, size_t max_bytes) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return bad(path, "cannot be opened: " + errno_text(errno));
  std::string text(max_bytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  const int error = std::ferror(file) != 0 ? errno : 0;
  std::fclose(file);
  if (error != 0) return bad(path, "cannot be read: " + errno_text(error));
  if (text.size() > max_bytes) return bad(path, "larger than " + std::to_string(max_bytes) + " bytes");
  return text;
}

Result<std::vector<Certificate>> read_certificates(const std::string& path) {
  TRY_ASSIGN(const std::string text, read_file(path, kMaxPemBytes));
  const auto blocks = pem_decode(text);
  if (!blocks) return bad(path, blocks.error().message);
  std::vector<Certificate> out;
  for (const PemBlock& block : *blocks) {
    if (block.label != "CERTIFICATE") continue;
    auto certificate = Certificate::parse(block.der);
    if (!certificate)
      return bad(path, "certificate " + std::to_string(out.size() + 1) + ": " + certificate.error().message);
    out.push_back(std::move(*certificate));
    if (out.size() > limits::kBundleCertificates) return bad(path, "more than 1,000 certificates");
  }
  if (out.empty()) return bad(path, "no certificate in it");
  return out;
}

Result<PrivateKey> read_private_key(const std::string& path) {
  TRY_ASSIGN(std::string text, read_file(path, kMaxPemBytes));
  auto blocks = pem_decode(text);
  wipe(text.data(), text.size());
  if (!blocks) return bad(path, blocks.error().message);
  Result<PrivateKey> key = bad(path, "no private key in it; it must be PEM and not encrypted");
  for (PemBlock& block : *blocks) {
    if (!key && block.label.ends_with("PRIVATE KEY")) {
      key = PrivateKey::from_pkcs8(block.der);
      if (!key) key = bad(path, key.error().message);
    }
    wipe(block.der);
  }
  return key;
}

}  // namespace limpet::kit
