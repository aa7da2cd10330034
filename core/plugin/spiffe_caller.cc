// SPDX-License-Identifier: Apache-2.0
#include "plugin/spiffe_caller.h"

#include <utility>

namespace limpet {
namespace {

// The chain against the bundle that came with the SVID, and exactly the server's ID.
class ServerVerifier final : public wire::PeerVerifier {
 public:
  ServerVerifier(const Clock& clock, SharedIdentity identity, std::string server)
      : clock_(clock), identity_(std::move(identity)), server_(std::move(server)) {}

  [[nodiscard]] Result<void> verify(const std::vector<Bytes>& chain) const override {
    TRY_ASSIGN(const std::vector<Certificate> certificates, parse_chain(chain));
    TRY_ASSIGN(const SpiffeId id, verify_chain(certificates, identity_->roots, clock_.now()));
    if (id.text() == server_) return {};
    return fail(Code::unauthenticated, "unexpected ID \"" + id.text() + "\", the server must be \"" + server_ + "\"");
  }

 private:
  const Clock& clock_;
  SharedIdentity identity_;
  std::string server_;
};

class Policy final : public wire::TlsPolicy {
 public:
  Policy(const Clock& clock, SharedIdentity identity, const std::string& trust_domain)
      : identity_(std::move(identity)),
        verifier_(std::make_shared<ServerVerifier>(clock, identity_,
                                                   "spiffe://" + trust_domain + std::string(kServerPath))) {}
  std::shared_ptr<const wire::TlsIdentity> identity() override { return {identity_, &identity_->tls}; }
  std::shared_ptr<const wire::PeerVerifier> verifier() override { return verifier_; }

 private:
  SharedIdentity identity_;
  std::shared_ptr<const wire::PeerVerifier> verifier_;  // shared with the handshake
};

}  // namespace

// One call: an identity, a connection, a question, its answer.
class SpiffeCaller::Call {
 public:
  Call(SpiffeCaller& caller, GrpcRequest request, Done<Bytes> done)
      : caller_(caller),
        request_(std::move(request)),
        where_(request_.host + ":" + std::to_string(request_.port)),
        key_(where_ + " " + request_.trust_domain + " " + request_.socket_path),
        done_(std::move(done)),
        deadline_(caller.loop_) {}
  std::list<std::unique_ptr<Call>>::iterator place;
  [[nodiscard]] bool wanted() const { return done_.wanted(); }

  void start() {
    started_ms_ = caller_.loop_.now_ms();
    deadline_.start<&Call::on_deadline>(request_.timeout_ms, this);
    caller_.source(request_.socket_path).get(got_.then<&Call::on_identity>(this));
  }

 private:
  // 1. whom to be
  void on_identity(Result<SharedIdentity> identity) {
    if (!identity) return end(fail(std::move(identity).error()));
    identity_ = std::move(*identity);
    const auto kept = caller_.connections_.find(key_);
    if (kept != caller_.connections_.end() && kept->second.identity == identity_ && kept->second.channel->usable()) {
      channel_ = kept->second.channel;
      return ask();
    }
    policy_ = std::make_unique<Policy>(caller_.clock_, identity_, request_.trust_domain);
    wire::DialOptions options;
    options.host = request_.host;
    options.port = request_.port;
    options.tls = policy_.get();
    options.timeout_ms = left_ms();
    wire::dial(caller_.loop_, std::move(options), dialled_.then<&Call::on_dialled>(this));
  }
  // 2. connected
  void on_dialled(Result<std::unique_ptr<wire::Channel>> channel) {
    if (!channel) return end(fail(std::move(channel).error().within("server " + where_)));
    channel_ = std::move(*channel);
    caller_.connections_.insert_or_assign(key_, Connection{channel_, identity_});
    ask();
  }
  void ask() {
    call_ = channel_->open(request_.method, {.timeout_ms = left_ms(), .metadata = {}});
    call_->send(std::move(request_.message), sent_.then<&Call::on_sent>(this));
    call_->close_send();
    call_->receive(received_.then<&Call::on_reply>(this));
  }
  void on_sent(Result<void>) {}  // a failure shows in receive()
  // 3. the reply, then the status
  void on_reply(Result<std::optional<Bytes>> reply) {
    if (!reply) return end(fail(std::move(reply).error().within("server " + where_)));
    if (!*reply) return end(fail(Code::internal, "server " + where_ + ": a unary call without a reply"));
    reply_ = std::move(**reply);
    call_->receive(received_.then<&Call::on_status>(this));
  }
  void on_status(Result<std::optional<Bytes>> status) {
    if (!status) return end(fail(std::move(status).error().within("server " + where_)));
    if (*status) return end(fail(Code::internal, "server " + where_ + ": two replies to a unary call"));
    end(std::move(reply_));
  }
  void on_deadline() {
    // a connection on which nothing comes back is not tried again
    if (channel_ != nullptr) caller_.connections_.erase(key_);
    end(fail(Code::deadline_exceeded,
             "server " + where_ + ": no answer within " + std::to_string(request_.timeout_ms / 1000) + " s"));
  }
  [[nodiscard]] int64_t left_ms() const {
    return std::max<int64_t>(1, request_.timeout_ms - (caller_.loop_.now_ms() - started_ms_));
  }
  void end(Result<Bytes> result) {
    Done<Bytes> done = std::move(done_);
    const std::unique_ptr<Call> self = std::move(*place);
    caller_.calls_.erase(self->place);
    done(std::move(result));
  }

  SpiffeCaller& caller_;
  GrpcRequest request_;
  const std::string where_;
  const std::string key_;
  Done<Bytes> done_;
  Timer deadline_;
  int64_t started_ms_ = 0;
  SharedIdentity identity_;
  std::unique_ptr<Policy> policy_;
  SharedChannel channel_;
  std::unique_ptr<wire::ClientCall> call_;
  Bytes reply_;
  Pending<SharedIdentity> got_;
  Pending<std::unique_ptr<wire::Channel>> dialled_;
  Pending<void> sent_;
  Pending<std::optional<Bytes>> received_;
};

SpiffeCaller::SpiffeCaller(UvLoop& loop, const Clock& clock) : loop_(loop), clock_(clock) {}
SpiffeCaller::~SpiffeCaller() = default;

void SpiffeCaller::call(GrpcRequest request, Done<Bytes> done) {
  std::erase_if(calls_, [](const std::unique_ptr<Call>& call) { return !call->wanted(); });
  auto& call = calls_.emplace_back(std::make_unique<Call>(*this, std::move(request), std::move(done)));
  call->place = std::prev(calls_.end());
  call->start();
}

WorkloadSource& SpiffeCaller::source(const std::string& socket_path) {
  auto& source = sources_[socket_path];
  if (source == nullptr) source = std::make_unique<WorkloadSource>(loop_, socket_path);
  return *source;
}

}  // namespace limpet
