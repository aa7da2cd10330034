// SPDX-License-Identifier: Apache-2.0
#include "server/server_svid.h"

namespace limpet::server {
namespace {
constexpr int64_t kCheckMs = 5'000;
}

ServerSvid::ServerSvid(Loop& loop, const Clock& clock, Logger& logger, Health& health, X509Ca& ca,
                       TrustDomain trust_domain, int64_t ttl, Metrics& metrics)
    : loop_(loop), clock_(clock), logger_(logger), health_(health), ca_(ca), ttl_(ttl), metrics_(metrics), tick_(loop) {
  if (auto id = SpiffeId::make(trust_domain, kServerPath)) id_ = *id;
}

void ServerSvid::start(Done<void> done) {
  started_ = std::move(done);
  renew();
}

// Half of the life is over. Also when the clock was set back before the certificate's time: a new one is as good.
void ServerSvid::on_tick() {
  int64_t left = certificate_.not_after - clock_.now();
  int64_t life = certificate_.not_after - certificate_.not_before;
  if (left > life / 2 && clock_.now() >= certificate_.not_before) {
    tick_.start<&ServerSvid::on_tick>(kCheckMs, this);
    return;
  }
  renew();
}

void ServerSvid::renew_if_issued_by(std::string_view authority_id) {
  if (!identity_ || hex_encode(certificate_.authority_key_id) != authority_id || key_made_.armed() || signed_.armed())
    return;
  tick_.stop();
  renew();
}

void ServerSvid::renew() {
  renew_ms_ = loop_.now_ms();
  loop_.work(
      []() -> Result<std::shared_ptr<const PrivateKey>> {
        TRY_ASSIGN(PrivateKey key, PrivateKey::generate(KeyType::ec_p256));
        return std::make_shared<const PrivateKey>(std::move(key));
      },
      key_made_.then<&ServerSvid::on_key>(this));
}

void ServerSvid::on_key(Result<std::shared_ptr<const PrivateKey>> key) {
  if (!key) return end(std::unexpected(std::move(key).error().within("generate key")));
  new_key_ = std::move(*key);
  SvidRequest request;
  request.id = id_;
  request.spki = new_key_->public_key().spki();
  request.subject_key_id = new_key_->public_key().key_id();
  request.ttl = ttl_;
  ca_.sign(std::move(request), signed_.then<&ServerSvid::on_signed>(this));
}

void ServerSvid::on_signed(Result<SignedSvid> svid) {
  if (!svid) return end(std::unexpected(std::move(svid).error()));
  auto certificate = Certificate::parse(svid->chain.front());
  if (!certificate) return end(std::unexpected(std::move(certificate).error()));
  auto identity = std::make_shared<wire::TlsIdentity>();
  identity->chain = std::move(svid->chain);
  identity->key = std::move(new_key_);
  identity_ = std::move(identity);
  certificate_ = std::move(*certificate);
  end({});
}

void ServerSvid::end(Result<void> result) {
  new_key_.reset();
  metrics_.call("svid_rotate", result ? Code::ok : result.error().code, loop_.now_ms() - renew_ms_);
  if (result) {
    health_.report("svid", HealthState::ok);
    logger_.info("Server X509-SVID issued",
                 {{"spiffe_id", id_.text()}, {"expires_at", TimeText(certificate_.not_after).rfc3339()}});
  } else if (identity_) {
    bool expired = certificate_.not_after <= clock_.now();
    health_.report("svid", expired ? HealthState::failed : HealthState::degraded,
                   "server X509-SVID not renewed: " + result.error().message);
    logger_.error("Server X509-SVID not renewed, trying again", {{"error", result.error().text()}});
  }
  if (identity_) tick_.start<&ServerSvid::on_tick>(kCheckMs, this);
  Done<void> done = std::move(started_);
  if (!result) result = std::unexpected(std::move(result).error().within("issue the server's X509-SVID"));
  done(std::move(result));
}

}  // namespace limpet::server
