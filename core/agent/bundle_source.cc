// SPDX-License-Identifier: Apache-2.0
#include "agent/bundle_source.h"

#include <utility>

#include "agent/server_trust.h"
#include "base/limits.h"
#include "wire/http_client.h"
#include "wire/web_tls.h"

namespace limpet::agent {

namespace {
constexpr int kOk = 200;
constexpr int64_t kFetchMs = 30'000;
}  // namespace

// One fetch from an address. The asker holds nothing but his Pending, so the loop keeps the flow.
class ConfiguredBundle::Fetch final : public LoopGuest {
 public:
  Fetch(ConfiguredBundle& source, Done<Bundle> done)
      : loop_(source.loop_),
        clock_(source.clock_),
        web_roots_(source.web_roots_),
        address_(source.config_.trust_bundle_url),
        socket_(source.config_.trust_bundle_unix_socket),
        format_(source.config_.trust_bundle_format),
        trust_domain_(source.trust_domain_),
        done_(std::move(done)),
        later_(source.loop_) {}

  void start(const std::string& query) {
    auto url = wire::Url::parse(socket_.empty() ? address_ : with_query(address_, query));
    if (!url) {
      error_ = std::move(url).error();
      return later_.start<&Fetch::on_later>(0, this);
    }
    url_ = std::move(*url);
    if (!socket_.empty()) return get();
    loop_.work<std::shared_ptr<const wire::WebRoots>>([path = web_roots_] { return wire::WebRoots::load(path); },
                                                      loaded_.then<&Fetch::on_roots>(this));
  }

 private:
  static std::string with_query(const std::string& address, const std::string& query) {
    return address + (address.find('?') == std::string::npos ? "?" : "&") + query;
  }
  // 1. the certificate authorities of the Web
  void on_roots(Result<std::shared_ptr<const wire::WebRoots>> roots) {
    if (!roots) return end(fail(std::move(roots).error()));
    tls_ = std::make_unique<wire::WebClientTls>(std::move(*roots), url_.host, clock_);
    get();
  }
  void get() {
    wire::HttpGet request;
    request.url = url_;
    request.tls = tls_.get();
    request.unix_path = socket_;
    request.timeout_ms = kFetchMs;
    request.max_body = limits::kBundleJsonBytes;
    wire::http_get(loop_, std::move(request), got_.then<&Fetch::on_reply>(this));
  }
  // 2. the document
  void on_reply(Result<wire::HttpReply> reply) {
    if (!reply) return end(fail(std::move(reply).error()));
    if (reply->status != kOk) return end(fail(Code::unavailable, "unexpected status " + std::to_string(reply->status)));
    end(parse_bundle(as_text(reply->body), format_, trust_domain_));
  }
  void on_later() { end(fail(std::move(error_))); }
  void end(Result<Bundle> bundle) {
    Done<Bundle> done = std::move(done_);
    if (!bundle) bundle = fail(std::move(bundle).error().within("trust_bundle_url " + address_));
    loop_.dismiss(*this);
    done(std::move(bundle));
  }

  UvLoop& loop_;
  const Clock& clock_;
  std::string web_roots_;
  std::string address_;
  std::string socket_;
  std::string format_;
  TrustDomain trust_domain_;
  Done<Bundle> done_;
  Timer later_;
  Error error_;
  wire::Url url_;
  std::unique_ptr<wire::WebClientTls> tls_;
  Pending<std::shared_ptr<const wire::WebRoots>> loaded_;
  Pending<wire::HttpReply> got_;
};

ConfiguredBundle::ConfiguredBundle(UvLoop& loop, const Clock& clock, const AgentConfig& config,
                                   TrustDomain trust_domain, std::string web_roots)
    : loop_(loop),
      clock_(clock),
      config_(config),
      trust_domain_(std::move(trust_domain)),
      web_roots_(std::move(web_roots)),
      started_at_(clock.now()) {}
ConfiguredBundle::~ConfiguredBundle() = default;

void ConfiguredBundle::get(int attempts, bool again, Done<Bundle> done) {
  if (config_.trust_bundle_url.empty()) {
    loop_.post([bundle = read_bundle_file(config_.trust_bundle_path, config_.trust_bundle_format, trust_domain_),
                d = std::move(done)]() mutable { d(std::move(bundle)); });
    return;
  }
  auto fetch = std::make_unique<Fetch>(*this, std::move(done));
  Fetch& kept = *fetch;
  loop_.keep(std::move(fetch));
  kept.start("spire-attest-mode=" + std::string(again ? "rebootstrap" : "initial") + "&spire-connection-attempts=" +
             std::to_string(attempts) + "&spire-attest-start-time=" + TimeText(started_at_).rfc3339() +
             "&spire-server-address=" + config_.server_address + "&spire-server-port=" +
             std::to_string(config_.server_port) + "&spiffe-trust-domain=" + trust_domain_.name());
}

}  // namespace limpet::agent
