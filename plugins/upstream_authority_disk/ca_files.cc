// SPDX-License-Identifier: Apache-2.0
#include "upstream_authority_disk/ca_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/errno_text.h"
#include "base/limits.h"

namespace limpet::upstream_authority_disk {
namespace {

constexpr size_t kMaxFileBytes = 1u << 20;
constexpr int64_t kNotBeforeSlack = 10;  // seconds: peers' clocks differ

std::unexpected<Error> bad(const std::string& path, const std::string& why) {
  return fail(Code::failed_precondition, path + ": " + why);
}

Result<std::vector<PemBlock>> read_pem(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return bad(path, "cannot be opened: " + errno_text(errno));
  std::string text(kMaxFileBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) return bad(path, "cannot be read");
  auto blocks = text.size() > kMaxFileBytes
                    ? Result<std::vector<PemBlock>>(fail(Code::failed_precondition, "larger than 1 MiB"))
                    : pem_decode(text);
  wipe(text.data(), text.size());  // it may be the key
  if (!blocks) return bad(path, blocks.error().message);
  return blocks;
}

Result<std::vector<Certificate>> read_certificates(const std::string& path) {
  TRY_ASSIGN(const std::vector<PemBlock> blocks, read_pem(path));
  std::vector<Certificate> out;
  for (const PemBlock& block : blocks) {
    if (block.label != "CERTIFICATE") continue;
    auto certificate = Certificate::parse(block.der);
    if (!certificate) {
      return bad(path, "certificate " + std::to_string(out.size() + 1) + ": " + certificate.error().message);
    }
    out.push_back(std::move(*certificate));
    if (out.size() > limits::kBundleCertificates) return bad(path, "more than 1,000 certificates");
  }
  if (out.empty()) return bad(path, "no certificate in it");
  return out;
}

Result<PrivateKey> read_key(const std::string& path) {
  TRY_ASSIGN(std::vector<PemBlock> blocks, read_pem(path));
  Result<PrivateKey> key = bad(path, "no private key in it; it must be PEM and not encrypted");
  for (PemBlock& block : blocks) {
    if (!key && block.label.ends_with("PRIVATE KEY")) {
      key = PrivateKey::from_pkcs8(block.der);
      if (!key) key = bad(path, key.error().message);
    }
    wipe(block.der);
  }
  return key;
}

Result<void> check_time(const std::string& path, const Certificate& certificate, int64_t now, const char* what) {
  if (certificate.not_after <= now)
    return bad(path, std::string(what) + " has expired; put the renewed one there, nothing needs to be restarted");
  return {};
}

Stamp stamp_of(const std::string& path) {
  struct stat st = {};
  if (path.empty() || ::stat(path.c_str(), &st) != 0) return {};
  return {st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ino, st.st_size};
}

}  // namespace

Stamps stamps_of(const Paths& paths) { return {stamp_of(paths.cert), stamp_of(paths.key), stamp_of(paths.bundle)}; }

Result<UpstreamCa> UpstreamCa::load(const Paths& paths, int64_t now) {
  TRY_ASSIGN(std::vector<Certificate> issuers, read_certificates(paths.cert));
  TRY_ASSIGN(PrivateKey key, read_key(paths.key));
  Certificate certificate = std::move(issuers.front());
  issuers.erase(issuers.begin());
  if (!(key.public_key() == certificate.key)) {
    return bad(paths.key, "the key does not match the certificate in " + paths.cert);
  }
  if (!certificate.ca || (certificate.has_key_usage && (certificate.key_usage & kKeyCertSign) == 0)) {
    return bad(paths.cert, "the certificate is not a CA");
  }
  TRY(check_time(paths.cert, certificate, now, "the CA certificate"));
  UpstreamCa ca(paths, std::move(certificate), std::move(key));
  std::vector<Certificate> roots;
  if (paths.bundle.empty()) {
    if (!ca.certificate_.verify_signed_by(ca.certificate_))
      return bad(paths.cert, "the CA certificate is not self-signed: set bundle_file_path to the file of its root");
    roots.push_back(ca.certificate_);
  } else {
    TRY_ASSIGN(roots, read_certificates(paths.bundle));
  }
  TRY(ca.find_chain(issuers, roots, now));
  return ca;
}

// Walks from the CA to a root of the bundle through the certificates that stand in the CA's file.
Result<void> UpstreamCa::find_chain(const std::vector<Certificate>& issuers, const std::vector<Certificate>& roots,
                                    int64_t now) {
  for (const Certificate& root : roots) roots_.push_back(root.der);
  const std::string& root_file = paths_.bundle.empty() ? paths_.cert : paths_.bundle;
  const Certificate* at = &certificate_;
  const auto signs = [&at](const Certificate& c) { return c.subject == at->issuer && at->verify_signed_by(c); };
  while (chain_.size() < limits::kChainCertificates) {
    if (std::ranges::find(roots_, at->der) != roots_.end()) return {};  // trusted itself
    chain_.push_back(at->der);
    if (const auto root = std::ranges::find_if(roots, signs); root != roots.end())
      return check_time(root_file, *root, now, "the root");
    const auto issuer = std::ranges::find_if(issuers, signs);
    if (issuer == issuers.end()) break;
    TRY(check_time(paths_.cert, *issuer, now, "an intermediate certificate"));
    at = &*issuer;
  }
  return bad(root_file, "it does not hold the root of the CA certificate in " + paths_.cert +
                            "; intermediate certificates belong into that file, behind the CA's");
}

Result<Bytes> UpstreamCa::sign(BytesView csr_der, const std::string& trust_domain_id, int64_t ttl, int64_t now) const {
  auto csr = Csr::parse(csr_der);
  if (!csr) return fail(Code::invalid_argument, "the CSR cannot be read: " + csr.error().message);
  if (auto good = csr->verify(); !good)
    return fail(Code::invalid_argument, "the CSR is not signed by its key: " + good.error().message);
  if (csr->uris.size() != 1 || csr->uris.front() != trust_domain_id)
    return fail(Code::invalid_argument, "the CSR must name " + trust_domain_id + " and nothing else as its URI SAN");
  TRY(check_time(paths_.cert, certificate_, now, "the CA certificate"));
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = csr->subject;
  cert.issuer = certificate_.subject;
  cert.not_before = now - kNotBeforeSlack;
  cert.not_after = std::min(now + ttl, certificate_.not_after);
  cert.spki = csr->key.spki();
  cert.ca = true;
  cert.key_usage = kKeyCertSign | kCrlSign;
  cert.uris = csr->uris;
  cert.subject_key_id = csr->key.key_id();
  cert.authority_key_id = certificate_.subject_key_id;
  const HashAlg alg = hash_for(key_.type());
  const Bytes tbs = encode_tbs(cert, key_.type(), alg);
  TRY_ASSIGN_WITHIN("sign with " + paths_.key, const Bytes signature, key_.sign(alg, hash(alg, tbs)));
  return seal_certificate(tbs, key_.type(), alg, signature);
}

}  // namespace limpet::upstream_authority_disk
