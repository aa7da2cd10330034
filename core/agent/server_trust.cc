// SPDX-License-Identifier: Apache-2.0
#include "agent/server_trust.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "agent/agent_svid.h"
#include "base/limits.h"

namespace limpet::agent {

namespace {

// Chain against the bundle, and exactly the server's ID.
class ServerVerifier final : public wire::PeerVerifier {
 public:
  ServerVerifier(std::shared_ptr<const Clock> clock, const Bundle& bundle)
      : clock_(std::move(clock)),
        roots_(bundle_set(bundle)),
        server_(bundle.trust_domain.id() + std::string(kServerPath)) {}

  [[nodiscard]] Result<void> verify(const std::vector<Bytes>& chain) const override {
    TRY_ASSIGN(const std::vector<Certificate> certificates, parse_chain(chain));
    TRY_ASSIGN(const SpiffeId id, verify_chain(certificates, roots_, judged_at(*clock_, certificates)));
    if (id.text() == server_) return {};
    return fail(Code::unauthenticated, "unexpected ID \"" + id.text() + "\", the server must be \"" + server_ + "\"");
  }

 private:
  std::shared_ptr<const Clock> clock_;
  BundleSet roots_;
  std::string server_;
};

// Insecure bootstrap: the name alone.
class NameVerifier final : public wire::PeerVerifier {
 public:
  explicit NameVerifier(const TrustDomain& trust_domain) : server_(trust_domain.id() + std::string(kServerPath)) {}

  [[nodiscard]] Result<void> verify(const std::vector<Bytes>& chain) const override {
    if (chain.empty()) return fail(Code::unauthenticated, "the server showed no certificate");
    TRY_ASSIGN(const Certificate leaf, Certificate::parse(chain.front()));
    if (leaf.uris.size() == 1 && leaf.uris.front() == server_) return {};
    return fail(Code::unauthenticated, "the server's certificate is not for \"" + server_ + "\"");
  }

 private:
  std::string server_;
};

// Neither a bundle nor the permission to go without.
class NoVerifier final : public wire::PeerVerifier {
 public:
  [[nodiscard]] Result<void> verify(const std::vector<Bytes>&) const override {
    return fail(Code::unauthenticated, "no trust bundle: set trust_bundle_path or insecure_bootstrap");
  }
};

Result<std::string> read_text_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return fail(Code::not_found, path + ": " + std::strerror(errno));
  std::string text(limits::kBundleJsonBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) return fail(Code::unavailable, path + ": cannot be read");
  if (text.size() > limits::kBundleJsonBytes) return fail(Code::invalid_argument, path + ": larger than 1 MiB");
  return text;
}

Result<Bundle> bundle_from_pem(std::string_view pem, const TrustDomain& trust_domain) {
  TRY_ASSIGN(std::vector<PemBlock> blocks, pem_decode(pem));
  Bundle bundle;
  bundle.trust_domain = trust_domain;
  for (PemBlock& block : blocks) {
    if (block.label != "CERTIFICATE") continue;
    TRY(Certificate::parse(block.der));
    bundle.x509_authorities.push_back({std::move(block.der), false});
  }
  return bundle;
}

}  // namespace

Result<Bytes> WatchedSigner::sign(HashAlg alg, BytesView digest) const {
  Result<Bytes> signature = signer_->sign(alg, digest);
  const std::lock_guard lock(mutex_);
  failure_.reset();
  if (!signature) failure_ = signature.error();
  return signature;
}

std::optional<Error> WatchedSigner::take_failure() const {
  const std::lock_guard lock(mutex_);
  return std::exchange(failure_, std::nullopt);
}

Credential::Credential(std::vector<Bytes> chain, const ManagedKey& key, std::shared_ptr<const BlockingSigner> signer,
                       std::shared_ptr<wire::RemoteTurns> turns)
    : signer_(std::make_shared<WatchedSigner>(std::move(signer))),
      tls_{std::move(chain), nullptr, key.key, std::move(turns)},
      remote_(key.key, signer_) {}

ServerTrust::ServerTrust(std::shared_ptr<const Clock> clock, TrustDomain trust_domain, bool insecure)
    : clock_(std::move(clock)), trust_domain_(std::move(trust_domain)) {
  if (insecure)
    verifier_ = std::make_shared<NameVerifier>(trust_domain_);
  else
    verifier_ = std::make_shared<NoVerifier>();
}

void ServerTrust::set_bundle(const Bundle& bundle) {
  if (bundle_ && bundle_->x509_authorities == bundle.x509_authorities) {
    bundle_ = bundle;
    return;
  }
  bundle_ = bundle;
  verifier_ = std::make_shared<ServerVerifier>(clock_, bundle);
}

std::shared_ptr<const wire::TlsIdentity> ServerTrust::Policy::identity() {
  if (!show_ || trust_.credential_ == nullptr) return nullptr;
  return {trust_.credential_, &trust_.credential_->tls()};
}

BundleSet bundle_set(const Bundle& bundle) {
  std::vector<Certificate> roots;
  for (const X509Authority& authority : bundle.x509_authorities) {
    auto root = Certificate::parse(authority.der);
    if (root) roots.push_back(std::move(*root));
  }
  BundleSet set;
  set.set(bundle.trust_domain, std::move(roots));
  return set;
}

Result<Bundle> read_bundle_file(const std::string& path, const std::string& format, const TrustDomain& trust_domain) {
  TRY_ASSIGN_WITHIN("trust bundle", const std::string text, read_text_file(path));
  auto bundle = parse_bundle(text, format, trust_domain);
  if (!bundle) return fail(std::move(bundle).error().within("trust bundle " + path));
  return bundle;
}

Result<Bundle> parse_bundle(std::string_view text, const std::string& format, const TrustDomain& trust_domain) {
  auto bundle = format == "spiffe" ? bundle_from_json(text, trust_domain) : bundle_from_pem(text, trust_domain);
  if (bundle && bundle->x509_authorities.empty())
    return fail(Code::invalid_argument, "no certificate in it; is trust_bundle_format right?");
  return bundle;
}

}  // namespace limpet::agent
