// SPDX-License-Identifier: Apache-2.0
#pragma once
// Upstream authorities as the core sees them: whoever signs this server's CA certificates. The facade over the ABI
// implements it (plugin/upstream_authority.cc); tests use fakes. Loop thread only.

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "loop/done.h"

namespace limpet {

struct MintedCa {
  std::vector<Bytes> chain;  // DER: the new CA certificate first, up to but without the root; never empty
  std::vector<Bytes> roots;  // DER; never empty
};
struct UpstreamJwtKey {
  std::string id;
  Bytes spki;
  int64_t expires_at = 0;  // Unix seconds, 0: never
  bool tainted = false;
};
struct UpstreamBundle {
  std::vector<Bytes> x509_roots;  // DER
  std::vector<UpstreamJwtKey> jwt_keys;
  int64_t refresh_hint = 0;               // seconds
  std::vector<Bytes> tainted_roots = {};  // DER, of x509_roots
};

// Who is told of the upstream's bundle. Outlives its watch. May destroy the watch in either call.
class UpstreamWatcher {
 public:
  virtual ~UpstreamWatcher() = default;
  virtual void on_upstream_bundle(UpstreamBundle bundle) = 0;  // each one is complete
  // The watch is over: not wanted any longer by the plugin (success), or a failure. Watch again after a pause.
  virtual void on_upstream_watch_end(Result<void> why) = 0;
};

// A stream of bundles. Destroying it ends it.
class UpstreamWatch {
 public:
  virtual ~UpstreamWatch() = default;
};

class UpstreamAuthority {
 public:
  virtual ~UpstreamAuthority() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;
  // `ttl` in seconds is a wish.
  virtual void mint_ca(Bytes csr, int64_t ttl, Done<MintedCa> done) = 0;
  // UNIMPLEMENTED: this upstream knows nothing of JWT keys.
  virtual void publish_jwt_key(UpstreamJwtKey key, Done<void> done) = 0;
  [[nodiscard]] virtual std::unique_ptr<UpstreamWatch> watch_bundle(UpstreamWatcher& watcher) = 0;
};

}  // namespace limpet
