// SPDX-License-Identifier: Apache-2.0
#pragma once
// TLS by the Web's rules instead of SPIFFE's: a server with its certificate and key in PEM files, read again when they
// change, and a client that verifies a server's name against a file of certificate authorities. Loop thread; verifying
// happens on worker threads.

#include <memory>
#include <string>

#include "base/clock.h"
#include "loop/loop.h"
#include "wire/tls.h"

namespace limpet::wire {

inline constexpr const char* kSystemRoots = "/etc/ssl/certs/ca-certificates.crt";

// The file of the Web's certificate authorities: SSL_CERT_FILE of the environment, as Go has it, or the system's.
std::string web_roots_file();

// A file of PEM text within limits::kPemFileBytes. NOT_FOUND or INVALID_ARGUMENT with the path. Blocks.
Result<std::string> read_pem_file(const std::string& path);

struct WebServerFiles {
  std::string cert_file;  // the leaf, then intermediates
  std::string key_file;   // PKCS#8, SEC1 or PKCS#1, not encrypted
  int64_t sync_interval_ms = 3'600'000;
};

class WebServerTlsEvents {
 public:
  virtual ~WebServerTlsEvents() = default;
  virtual void on_certificate_changed() {}  // another pair is in use from now on
  virtual void on_certificate_refused(const Error& why) {
  }  // the files changed to something unusable; the old pair stays
};

class WebServerTls final : public TlsPolicy {
 public:
  // Reads both files before it returns. INVALID_ARGUMENT or NOT_FOUND names the file.
  static Result<std::unique_ptr<WebServerTls>> load(Loop& loop, WebServerFiles files,
                                                    WebServerTlsEvents* events = nullptr);
  std::shared_ptr<const TlsIdentity> identity() override { return identity_; }
  std::shared_ptr<const PeerVerifier> verifier() override { return nullptr; }  // clients are not asked

 private:
  struct Pair;
  WebServerTls(Loop& loop, WebServerFiles files, WebServerTlsEvents* events)
      : loop_(loop), files_(std::move(files)), events_(events), timer_(loop) {}
  static Result<Pair> read(const WebServerFiles& files);
  void on_time();
  void on_read(Result<Pair> pair);

  Loop& loop_;
  WebServerFiles files_;
  WebServerTlsEvents* events_;
  Timer timer_;
  Bytes digest_;                                 // of both files, as last seen
  std::shared_ptr<const TlsIdentity> identity_;  // shared with the handshakes and their configuration
  Pending<Pair> read_;
};

// Certificate authorities. Immutable; shared by every verifier made of it.
class WebRoots {
 public:
  // Blocks (200 kB, 5 ms): at start or on a worker. NOT_FOUND or INVALID_ARGUMENT names the file.
  static Result<std::shared_ptr<const WebRoots>> load(const std::string& path = kSystemRoots);
  ~WebRoots();
  struct Impl;
  [[nodiscard]] Impl& impl() const { return *impl_; }

 private:
  explicit WebRoots(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Accepts a chain that leads to one of the roots and a leaf for `host` (a name or an address), in Go's words otherwise.
// The clock is asked on workers: it is declared before the loop.
std::shared_ptr<const PeerVerifier> web_verifier(std::shared_ptr<const WebRoots> roots, std::string host,
                                                 const Clock& clock);

// A client's policy for one host.
class WebClientTls final : public TlsPolicy {
 public:
  WebClientTls(std::shared_ptr<const WebRoots> roots, std::string host, const Clock& clock)
      : verifier_(web_verifier(std::move(roots), std::move(host), clock)) {}
  std::shared_ptr<const TlsIdentity> identity() override { return nullptr; }
  std::shared_ptr<const PeerVerifier> verifier() override { return verifier_; }

 private:
  std::shared_ptr<const PeerVerifier> verifier_;
};

}  // namespace limpet::wire
