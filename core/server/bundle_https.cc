// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_https.h"

#include "base/limits.h"
#include "wire/http_client.h"
#include "wire/web_tls.h"

namespace limpet::server {
namespace {

constexpr int kOk = 200;
constexpr int kNotModified = 304;
constexpr int64_t kFetchMs = 30'000;

class SpiffeVerifier final : public wire::PeerVerifier {
 public:
  SpiffeVerifier(std::shared_ptr<const BundleSet> roots, SpiffeId expected, const Clock& clock)
      : roots_(std::move(roots)), expected_(std::move(expected)), clock_(clock) {}
  [[nodiscard]] Result<void> verify(const std::vector<Bytes>& chain) const override {
    return verify_bundle_endpoint(chain, *roots_, expected_, clock_.now());
  }

 private:
  std::shared_ptr<const BundleSet> roots_;  // the other owner: the bundle cache
  SpiffeId expected_;
  const Clock& clock_;
};

// A client without a certificate that accepts whom `verifier` accepts.
class FetchPolicy final : public wire::TlsPolicy {
 public:
  explicit FetchPolicy(std::shared_ptr<const wire::PeerVerifier> verifier) : verifier_(std::move(verifier)) {}
  std::shared_ptr<const wire::TlsIdentity> identity() override { return nullptr; }
  std::shared_ptr<const wire::PeerVerifier> verifier() override { return verifier_; }

 private:
  std::shared_ptr<const wire::PeerVerifier> verifier_;  // the other owner: the handshake on its worker
};

// One fetch. The asker holds nothing but his Pending, so the loop keeps the flow.
class FetchFlow final : public LoopGuest {
 public:
  FetchFlow(UvLoop& loop, const Clock& clock, std::string web_roots, BundleFetch what, Done<FetchedBundle> done)
      : loop_(loop),
        clock_(clock),
        web_roots_(std::move(web_roots)),
        what_(std::move(what)),
        done_(std::move(done)),
        later_(loop) {}

  void start() {
    auto url = wire::Url::parse(what_.relationship.url);
    if (!url) return end_later(std::move(url).error().within("bundle endpoint URL"));
    url_ = std::move(*url);
    if (what_.relationship.profile == BundleProfile::https_spiffe) {
      return get(std::make_shared<SpiffeVerifier>(what_.roots, what_.relationship.endpoint_id, clock_));
    }
    loop_.work<std::shared_ptr<const wire::WebRoots>>([path = web_roots_] { return wire::WebRoots::load(path); },
                                                      loaded_.then<&FetchFlow::on_roots>(this));
  }

 private:
  // 1. https_web: the certificate authorities
  void on_roots(Result<std::shared_ptr<const wire::WebRoots>> roots) {
    if (!roots) return end(std::unexpected(std::move(roots).error()));
    get(wire::web_verifier(std::move(*roots), url_.host, clock_));
  }
  void get(std::shared_ptr<const wire::PeerVerifier> verifier) {
    policy_ = std::make_unique<FetchPolicy>(std::move(verifier));
    wire::HttpGet request;
    request.url = url_;
    request.tls = policy_.get();
    request.etag = what_.etag;
    request.timeout_ms = kFetchMs;
    request.max_body = limits::kBundleJsonBytes;
    wire::http_get(loop_, std::move(request), got_.then<&FetchFlow::on_reply>(this));
  }
  // 2. the answer
  void on_reply(Result<wire::HttpReply> reply) {
    if (!reply) return end(std::unexpected(std::move(reply).error()));
    if (reply->status == kNotModified) return end(FetchedBundle{std::nullopt, what_.etag});
    if (reply->status != kOk) {
      return end(fail(Code::unavailable, "unexpected status " + std::to_string(reply->status) + " from the endpoint"));
    }
    etag_ = reply->etag();
    loop_.work<Bundle>(
        [body = std::move(reply->body), trust_domain = what_.relationship.trust_domain] {
          return bundle_from_json(as_text(body), trust_domain);
        },
        read_.then<&FetchFlow::on_read>(this));
  }
  // 3. its document
  void on_read(Result<Bundle> bundle) {
    if (!bundle) return end(std::unexpected(std::move(bundle).error()));
    end(FetchedBundle{std::move(*bundle), std::move(etag_)});
  }
  void end(Result<FetchedBundle> result) {
    Done<FetchedBundle> done = std::move(done_);
    loop_.dismiss(*this);
    done(std::move(result));
  }
  void end_later(Error error) {
    error_ = std::move(error);
    later_.start<&FetchFlow::on_later>(0, this);
  }
  void on_later() { end(std::unexpected(std::move(error_))); }

  UvLoop& loop_;
  const Clock& clock_;
  std::string web_roots_;
  BundleFetch what_;
  Done<FetchedBundle> done_;
  Timer later_;
  Error error_;
  wire::Url url_;
  std::string etag_;
  std::unique_ptr<FetchPolicy> policy_;
  Pending<std::shared_ptr<const wire::WebRoots>> loaded_;
  Pending<wire::HttpReply> got_;
  Pending<Bundle> read_;
};

}  // namespace

Result<void> verify_bundle_endpoint(const std::vector<Bytes>& chain, const BundleSet& roots, const SpiffeId& expected,
                                    int64_t now) {
  if (chain.empty()) return fail(Code::unauthenticated, "the endpoint has no certificate");
  TRY_ASSIGN(std::vector<Certificate> certificates, parse_chain(chain));
  TRY_ASSIGN(SpiffeId id, verify_chain(certificates, roots, now));
  if (id == expected) return {};
  return fail(Code::unauthenticated, "the endpoint is \"" + id.text() + "\", \"" + expected.text() + "\" is expected");
}

void HttpsBundleFetcher::fetch(BundleFetch what, Done<FetchedBundle> done) {
  auto flow = std::make_unique<FetchFlow>(loop_, clock_, web_roots_, std::move(what), std::move(done));
  FetchFlow& kept = *flow;
  loop_.keep(std::move(flow));
  kept.start();
}

}  // namespace limpet::server
