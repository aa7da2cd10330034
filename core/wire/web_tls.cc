// SPDX-License-Identifier: Apache-2.0
#include "wire/web_tls.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/errno_text.h"
#include "base/limits.h"
#include "base/secret.h"
#include "crypto/x509.h"

namespace limpet::wire {

std::string web_roots_file() {
  const char* file = std::getenv("SSL_CERT_FILE");
  return file != nullptr && *file != '\0' ? file : kSystemRoots;
}

Result<std::string> read_pem_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return fail(Code::not_found, path + ": " + errno_text(errno));
  std::string text(limits::kPemFileBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) return fail(Code::unavailable, path + ": cannot be read");
  if (text.size() > limits::kPemFileBytes) {
    return fail(Code::invalid_argument, path + ": larger than " + std::to_string(limits::kPemFileBytes) + " bytes");
  }
  return text;
}

struct WebServerTls::Pair {
  Bytes digest;
  std::shared_ptr<const TlsIdentity> identity;
};

namespace {

Result<std::vector<Bytes>> certificates_of(const std::string& text, const std::string& path) {
  TRY_ASSIGN_WITHIN(path, std::vector<PemBlock> blocks, pem_decode(text));
  std::vector<Bytes> chain;
  for (PemBlock& block : blocks) {
    if (block.label == "CERTIFICATE") chain.push_back(std::move(block.der));
  }
  if (chain.empty()) return fail(Code::invalid_argument, path + ": no certificate in it");
  if (chain.size() > limits::kChainCertificates) {
    return fail(Code::invalid_argument,
                path + ": more than " + std::to_string(limits::kChainCertificates) + " certificates");
  }
  return chain;
}

Result<PrivateKey> key_of(const std::string& text, const std::string& path) {
  TRY_ASSIGN_WITHIN(path, std::vector<PemBlock> blocks, pem_decode(text));
  for (const PemBlock& block : blocks) {
    if (!block.label.ends_with("PRIVATE KEY")) continue;
    auto key = PrivateKey::from_pkcs8(block.der);
    for (const PemBlock& each : blocks) wipe(const_cast<Bytes&>(each.der));
    if (!key) return fail(std::move(key).error().within(path));
    return key;
  }
  return fail(Code::invalid_argument, path + ": no private key in it");
}

}  // namespace

Result<WebServerTls::Pair> WebServerTls::read(const WebServerFiles& files) {
  TRY_ASSIGN(const std::string cert_text, read_pem_file(files.cert_file));
  TRY_ASSIGN(std::string key_text, read_pem_file(files.key_file));
  Pair pair;
  pair.digest = sha256(as_bytes(cert_text));
  append(pair.digest, sha256(as_bytes(key_text)));
  auto identity = std::make_shared<TlsIdentity>();
  TRY_ASSIGN(identity->chain, certificates_of(cert_text, files.cert_file));
  TRY_ASSIGN_WITHIN(files.cert_file, const Certificate leaf, Certificate::parse(identity->chain.front()));
  auto key = key_of(key_text, files.key_file);
  wipe(key_text.data(), key_text.size());
  if (!key) return fail(std::move(key).error());
  if (!(key->public_key() == leaf.key)) {
    return fail(Code::invalid_argument, files.key_file + " is not the key of " + files.cert_file);
  }
  identity->key = std::make_shared<PrivateKey>(std::move(*key));
  pair.identity = std::move(identity);
  return pair;
}

Result<std::unique_ptr<WebServerTls>> WebServerTls::load(Loop& loop, WebServerFiles files, WebServerTlsEvents* events) {
  TRY_ASSIGN(Pair pair, read(files));
  std::unique_ptr<WebServerTls> made(new WebServerTls(loop, std::move(files), events));
  made->digest_ = std::move(pair.digest);
  made->identity_ = std::move(pair.identity);
  made->timer_.start<&WebServerTls::on_time>(made->files_.sync_interval_ms, made.get());
  return made;
}

void WebServerTls::on_time() {
  loop_.work([files = files_]() -> Result<Pair> { return read(files); }, read_.then<&WebServerTls::on_read>(this));
}

void WebServerTls::on_read(Result<Pair> pair) {
  timer_.start<&WebServerTls::on_time>(files_.sync_interval_ms, this);
  if (!pair) {
    if (events_ != nullptr) events_->on_certificate_refused(pair.error());
    return;
  }
  if (pair->digest == digest_) return;
  digest_ = std::move(pair->digest);
  identity_ = std::move(pair->identity);
  if (events_ != nullptr) events_->on_certificate_changed();
}

}  // namespace limpet::wire
