// SPDX-License-Identifier: Apache-2.0
#include "plugin/workload_source.h"

#include "base/limits.h"
#include "base/secret.h"
#include "proto/workload.pb.h"
#include "wire/message.h"

namespace limpet {
namespace {

constexpr int64_t kPauseMs = 2'000;  // a socket of this machine: asking is cheap
constexpr int64_t kDialMs = 5'000;

}  // namespace

Result<SharedIdentity> read_identity(Bytes message) {
  const bool too_large = message.size() > limits::kWorkloadUpdateBytes;
  auto response = too_large ? Result<wire::Message<X509SVIDResponse>>(
                                  fail(Code::resource_exhausted, "an X509SVIDResponse of more than 1 MiB"))
                            : wire::Message<X509SVIDResponse>::decode(message);
  wipe(message);  // it carries the key
  if (!response) return fail(std::move(response).error());
  response->mark_secret();
  if ((*response)->svids_count == 0) return fail(Code::invalid_argument, "no SVID in the answer");
  const X509SVID& svid = (*response)->svids[0];
  auto identity = std::make_shared<WorkloadIdentity>();
  TRY_ASSIGN(identity->id, SpiffeId::parse(wire::view(svid.spiffe_id)));
  TRY_ASSIGN_WITHIN("SVID", const std::vector<Certificate> chain, parse_certificates(wire::view(svid.x509_svid)));
  if (chain.empty()) return fail(Code::invalid_argument, "an SVID without a certificate");
  for (const Certificate& certificate : chain) identity->tls.chain.push_back(certificate.der);
  TRY_ASSIGN_WITHIN("SVID's key", PrivateKey key, PrivateKey::from_pkcs8(wire::view(svid.x509_svid_key)));
  if (!(key.public_key() == chain.front().key)) return fail(Code::invalid_argument, "the SVID's key is another one's");
  identity->tls.key = std::make_shared<const PrivateKey>(std::move(key));
  TRY_ASSIGN_WITHIN("bundle", std::vector<Certificate> roots, parse_certificates(wire::view(svid.bundle)));
  identity->roots.set(identity->id.trust_domain(), std::move(roots));
  return SharedIdentity(std::move(identity));
}

WorkloadSource::WorkloadSource(UvLoop& loop, std::string socket_path)
    : loop_(loop), path_(std::move(socket_path)), pause_(loop) {}

void WorkloadSource::get(Done<SharedIdentity> done) {
  if (identity_ != nullptr) {
    loop_.post([d = std::move(done), identity = identity_]() mutable { d(std::move(identity)); });
  } else {
    std::erase_if(waiters_, [](const Done<SharedIdentity>& waiter) { return !waiter.wanted(); });
    waiters_.push_back(std::move(done));
  }
  if (stream_ == nullptr && !dialled_.armed()) dial();
}

// 1. the agent's socket
void WorkloadSource::dial() {
  pause_.stop();
  stream_.reset();
  channel_.reset();
  wire::DialOptions options;
  options.unix_path = path_;
  options.timeout_ms = kDialMs;
  wire::dial(loop_, std::move(options), dialled_.then<&WorkloadSource::on_dialled>(this));
}

// 2. one stream for as long as it lasts
void WorkloadSource::on_dialled(Result<std::unique_ptr<wire::Channel>> channel) {
  if (!channel) return broken(std::move(channel).error());
  channel_ = std::move(*channel);
  stream_ = channel_->open("/SpiffeWorkloadAPI/FetchX509SVID",
                           {.timeout_ms = 0, .metadata = {{"workload.spiffe.io", "true"}}});
  stream_->send({}, sent_.then<&WorkloadSource::on_sent>(this));
  stream_->close_send();
  receive();
}

void WorkloadSource::receive() { stream_->receive(received_.then<&WorkloadSource::on_message>(this)); }

// 3. each message replaces what was there
void WorkloadSource::on_message(Result<std::optional<Bytes>> message) {
  if (!message) return broken(std::move(message).error());
  if (!*message) return broken({Code::unavailable, "the agent ended the stream"});
  auto identity = read_identity(std::move(**message));
  if (!identity) return broken(std::move(identity).error());
  identity_ = *identity;
  receive();
  answer_waiters(identity_);
}

void WorkloadSource::broken(Error why) {
  stream_.reset();
  channel_.reset();
  pause_.start<&WorkloadSource::dial>(kPauseMs, this);
  if (identity_ == nullptr) answer_waiters(fail(std::move(why).within("Workload API " + path_)));
}

void WorkloadSource::answer_waiters(const Result<SharedIdentity>& answer) {
  std::vector<Done<SharedIdentity>> waiters = std::move(waiters_);
  waiters_.clear();
  for (Done<SharedIdentity>& waiter : waiters) waiter(answer);
}

}  // namespace limpet
