// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <list>

#include "base/limits.h"
#include "wire/tls_config.h"
#include "wire/tls_session.h"
#include "wire/tls_stream.h"

namespace limpet::wire {
namespace {

constexpr size_t kHandshakeBytes = 256u << 10;  // unread input of one handshake; a full chain is below 64 kB
constexpr int64_t kAlertLingerMs = 500;         // so that the alert is read before the connection is reset

class Handshake;

// What one worker job hands back.
struct Step {
  std::unique_ptr<TlsCore> core;
  Result<bool> result;
};

}  // namespace

struct TlsContexts::State {
  TlsEndpoint endpoint;
  std::shared_ptr<const TlsConfig> config;  // of the identity last seen
  std::list<Handshake*> waiting;
  size_t running = 0;
  std::shared_ptr<RemoteTurns> turns;  // of identities that bring none
};

namespace {

class Handshake final : public TlsHandshake, private StreamReader, private RemoteTurns::Waiter {
 public:
  Handshake(Loop& loop, TlsContexts::State& shared, TlsSide side, std::unique_ptr<Stream> stream,
            Done<TlsConnected> done)
      : loop_(loop), shared_(shared), side_(side), timer_(loop), done_(std::move(done)), stream_(std::move(stream)) {}
  ~Handshake() override {
    leave_pool();
    shared_.waiting.remove(this);
    if (turns_) turns_->forget(*this);
  }

  void start(TlsPolicy& policy) {
    if (auto made = make_core(policy); !made) {
      failure_ = std::move(made).error();
      timer_.start<&Handshake::on_failed>(0, this);
      return;
    }
    timer_.start<&Handshake::on_timeout>(limits::kHandshakeMs, this);
    if (side_ == TlsSide::client) want_step();
    stream_->read(*this);
  }

  void run_step();

 private:
  Result<void> make_core(TlsPolicy& policy) {
    auto identity = policy.identity();
    auto verifier = policy.verifier();
    const bool nobody_asked = side_ == TlsSide::server && !shared_.endpoint.ask_certificate;
    if (!verifier && !nobody_asked) return fail(Code::unavailable, "no trust bundle to verify the peer with yet");
    if (!identity && side_ == TlsSide::server) return fail(Code::unavailable, "the server has no certificate yet");
    if (identity && identity->remote_key) turns_ = identity->turns ? identity->turns : own_turns();
    if (!shared_.config || shared_.config->identity() != identity.get()) {
      TRY_ASSIGN(shared_.config, TlsConfig::make(side_, std::move(identity), shared_.endpoint));
    }
    TRY_ASSIGN(core_, TlsCore::make(side_, shared_.config, std::move(verifier)));
    return {};
  }

  // ---- StreamReader ----
  void on_bytes(BytesView bytes) override {
    if (failure_) return;
    if (inbox_.size() + bytes.size() > kHandshakeBytes) {
      return give_up(
          Error{Code::resource_exhausted, "TLS handshake larger than " + std::to_string(kHandshakeBytes) + " bytes"});
    }
    append(inbox_, bytes);
    if (core_) want_step();
  }
  void on_end(std::optional<Error> error) override {
    if (failure_) return on_failed();
    stream_->pause();
    ended_ = true;
    end_error_ = std::move(error);
    if (core_ && !waiting_) give_up(end_reason());  // else the step in flight may still tell why
  }

  [[nodiscard]] Error end_reason() const { return end_error_ ? *end_error_ : Error{Code::unavailable, "EOF"}; }

  // ---- the steps ----
  [[nodiscard]] std::shared_ptr<RemoteTurns> own_turns() {
    if (!shared_.turns) shared_.turns = std::make_shared<RemoteTurns>();
    return shared_.turns;
  }
  void want_step() {
    if (waiting_) return;
    if (turns_) {
      waiting_ = !turns_->take(*this);
      return waiting_ ? void() : run_step();
    }
    if (shared_.running < limits::kHandshakesInFlight) return run_step();
    waiting_ = true;
    shared_.waiting.push_back(this);
  }
  void on_turn() override { run_step(); }
  void leave_pool() {
    if (!std::exchange(in_pool_, false)) return;
    if (turns_) return;  // the job holds the turn: a worker that still waits for the key is one that nobody else has
    --shared_.running;
    if (shared_.waiting.empty()) return;
    Handshake* next = shared_.waiting.front();
    shared_.waiting.pop_front();
    next->run_step();
  }
  void on_step(Result<std::unique_ptr<Step>> step) {
    leave_pool();
    if (!step) return give_up(std::move(step).error());
    core_ = std::move((*step)->core);
    auto& result = (*step)->result;
    if (!core_->out.empty()) stream_->write(std::exchange(core_->out, Bytes()), Done<void>());
    if (!result) return give_up(std::move(result).error());
    if (*result) return succeed();
    if (!inbox_.empty()) return want_step();
    if (ended_) give_up(end_reason());
  }
  void succeed() {
    timer_.stop();
    stream_->pause();
    append(core_->in, inbox_);
    auto chain = std::move(core_->chain);
    const bool http2 = core_->http2();
    auto secured = std::make_unique<TlsStream>(loop_, std::move(stream_), std::move(core_));
    if (ended_) secured->ended_before(std::move(end_error_));
    TlsConnected connected{std::move(secured), std::move(chain), http2};
    Done<TlsConnected> done = std::move(done_);
    done(std::move(connected));
  }

  // ---- the other end ----
  void on_timeout() {
    give_up(Error{Code::deadline_exceeded,
                  "TLS handshake not done within " + std::to_string(limits::kHandshakeMs / 1000) + " s"});
  }
  // The alert, if any, is written; the peer gets a moment to read it.
  void give_up(Error why) {
    if (failure_) return;
    failure_ = std::move(why);
    if (ended_ || side_ == TlsSide::client) return on_failed();
    stream_->shutdown(Done<void>());
    timer_.start<&Handshake::on_failed>(kAlertLingerMs, this);
  }
  void on_failed() {
    timer_.stop();
    if (stream_) stream_->pause();
    Done<TlsConnected> done = std::move(done_);
    done(std::unexpected(std::move(*failure_)));
  }

  Loop& loop_;
  TlsContexts::State& shared_;
  TlsSide side_;
  Timer timer_;
  Done<TlsConnected> done_;
  std::unique_ptr<TlsCore> core_;  // null while a worker has it
  Pending<std::unique_ptr<Step>> step_;
  Bytes inbox_;  // what arrives meanwhile
  std::optional<Error> failure_;
  std::optional<Error> end_error_;      // none: the peer closed
  std::shared_ptr<RemoteTurns> turns_;  // where our key is outside the process: in place of shared_'s room
  bool waiting_ = false;
  bool in_pool_ = false;
  bool ended_ = false;
  std::unique_ptr<Stream> stream_;  // last: stops calling us first
};

// A turn that was taken, held by the worker's job, which dies on the loop.
struct Turn {
  std::shared_ptr<RemoteTurns> turns;  // null: none needed
  explicit Turn(std::shared_ptr<RemoteTurns> taken_from) : turns(std::move(taken_from)) {}
  Turn(Turn&&) noexcept = default;
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (turns) turns->give_back();
  }
};

void Handshake::run_step() {
  waiting_ = false;
  in_pool_ = true;
  if (!turns_) ++shared_.running;
  append(core_->in, inbox_);
  Bytes().swap(inbox_);
  loop_.work(
      [core = std::move(core_), turn = Turn(turns_)]() mutable -> Result<std::unique_ptr<Step>> {
        auto result = core->handshake();
        return std::make_unique<Step>(Step{std::move(core), std::move(result)});
      },
      step_.then<&Handshake::on_step>(this));
}

}  // namespace

bool RemoteTurns::take(Waiter& waiter) {
  if (taken_ == kAtOnce) {
    waiting_.push_back(&waiter);
    return false;
  }
  ++taken_;
  return true;
}

void RemoteTurns::give_back() {
  if (waiting_.empty()) {
    --taken_;
    return;
  }
  Waiter* const next = waiting_.front();
  waiting_.pop_front();
  next->on_turn();
}

void RemoteTurns::forget(Waiter& waiter) { waiting_.remove(&waiter); }

TlsContexts::TlsContexts(TlsEndpoint endpoint) : state_(std::make_unique<State>()) {
  state_->endpoint = std::move(endpoint);
}
TlsContexts::~TlsContexts() = default;

std::unique_ptr<TlsHandshake> TlsHandshake::accept(Loop& loop, TlsContexts& contexts, TlsPolicy& policy,
                                                   std::unique_ptr<Stream> stream, Done<TlsConnected> done) {
  auto made = std::make_unique<Handshake>(loop, *contexts.state_, TlsSide::server, std::move(stream), std::move(done));
  made->start(policy);
  return made;
}

std::unique_ptr<TlsHandshake> TlsHandshake::connect(Loop& loop, TlsContexts& contexts, TlsPolicy& policy,
                                                    std::unique_ptr<Stream> stream, Done<TlsConnected> done) {
  auto made = std::make_unique<Handshake>(loop, *contexts.state_, TlsSide::client, std::move(stream), std::move(done));
  made->start(policy);
  return made;
}

}  // namespace limpet::wire
