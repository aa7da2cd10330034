// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whom the agent believes to be the server, and whom it shows itself as. One object for the agent's whole life: the two
// TLS policies it lends outlive every dial. Loop thread only; what it hands to handshakes are immutable snapshots.

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "crypto/ecdsa.h"
#include "plugin/key_manager.h"
#include "spiffe/bundle.h"
#include "wire/tls.h"
#include "wire/tls_session.h"

namespace limpet::agent {

// A signer that remembers why it last failed: TLS itself only says that it did.
class WatchedSigner final : public BlockingSigner {
 public:
  explicit WatchedSigner(std::shared_ptr<const BlockingSigner> signer) : signer_(std::move(signer)) {}
  [[nodiscard]] Result<Bytes> sign(HashAlg alg, BytesView digest) const override;  // [any thread]
  [[nodiscard]] std::optional<Error> take_failure() const;

 private:
  std::shared_ptr<const BlockingSigner> signer_;
  mutable std::mutex mutex_;  // guards failure_
  mutable std::optional<Error> failure_;
};

// The agent's SVID with the way to its private key. Shared by ServerTrust and by each handshake that shows it.
class Credential {
 public:
  // `turns`: see TlsIdentity.
  Credential(std::vector<Bytes> chain, const ManagedKey& key, std::shared_ptr<const BlockingSigner> signer,
             std::shared_ptr<wire::RemoteTurns> turns = nullptr);
  [[nodiscard]] const wire::TlsIdentity& tls() const { return tls_; }
  // Why the key's last signature failed; none: it did not, or that was taken already.
  [[nodiscard]] std::optional<Error> take_key_failure() const { return signer_->take_failure(); }

 private:
  std::shared_ptr<const WatchedSigner> signer_;  // shared with the seam, where a handshake may be using it
  wire::TlsIdentity tls_;
  RemoteKey remote_;  // the key's signatures come from its key manager while this lives
};

class ServerTrust {
 public:
  // Without a bundle and with `insecure` set, whoever names itself the server is believed, once.
  // The clock is shared with handshakes that may still run on a worker when this is gone.
  ServerTrust(std::shared_ptr<const Clock> clock, TrustDomain trust_domain, bool insecure);

  void set_bundle(const Bundle& bundle);
  [[nodiscard]] bool has_bundle() const { return bundle_.has_value(); }
  [[nodiscard]] const std::optional<Bundle>& bundle() const { return bundle_; }
  [[nodiscard]] const TrustDomain& trust_domain() const { return trust_domain_; }
  void set_credential(std::shared_ptr<const Credential> credential) { credential_ = std::move(credential); }
  [[nodiscard]] const std::shared_ptr<const Credential>& credential() const { return credential_; }
  // For every credential, so that an old and a new one share the same few workers.
  [[nodiscard]] const std::shared_ptr<wire::RemoteTurns>& turns() const { return turns_; }

  // For attestation: no client certificate.
  wire::TlsPolicy& anonymous() { return anonymous_; }
  // For everything else: shows the agent's SVID.
  wire::TlsPolicy& authenticated() { return authenticated_; }

 private:
  class Policy final : public wire::TlsPolicy {
   public:
    Policy(ServerTrust& trust, bool show) : trust_(trust), show_(show) {}
    std::shared_ptr<const wire::TlsIdentity> identity() override;
    std::shared_ptr<const wire::PeerVerifier> verifier() override { return trust_.verifier_; }

   private:
    ServerTrust& trust_;
    bool show_;
  };

  std::shared_ptr<const Clock> clock_;
  TrustDomain trust_domain_;
  std::optional<Bundle> bundle_;
  std::shared_ptr<const wire::PeerVerifier> verifier_;  // shared with handshakes in flight
  std::shared_ptr<const Credential> credential_;
  std::shared_ptr<wire::RemoteTurns> turns_ = std::make_shared<wire::RemoteTurns>();
  Policy anonymous_{*this, false};
  Policy authenticated_{*this, true};
};

// The roots of a bundle as verify_chain() wants them; certificates that do not parse are left out.
BundleSet bundle_set(const Bundle& bundle);

// The text of a bundle, "pem" or "spiffe". INVALID_ARGUMENT, also without a certificate in it.
Result<Bundle> parse_bundle(std::string_view text, const std::string& format, const TrustDomain& trust_domain);
// The bundle of a file, "pem" or "spiffe". NOT_FOUND, INVALID_ARGUMENT; the text names the file.
Result<Bundle> read_bundle_file(const std::string& path, const std::string& format, const TrustDomain& trust_domain);

}  // namespace limpet::agent
