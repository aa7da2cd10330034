// SPDX-License-Identifier: Apache-2.0
#include "wire/proxy_listener.h"

#include <algorithm>

#include "base/limits.h"
#include "wire/peer_info.h"
#include "wire/proxy_header.h"

namespace limpet::wire {
namespace {

// A connection whose header was read: under another address, and with the bytes that came behind the header first.
class ProxiedStream final : public Stream {
 public:
  ProxiedStream(Loop& loop, std::unique_ptr<Stream> inner, StreamAddress address, Bytes early)
      : inner_(std::move(inner)), address_(std::move(address)), early_(std::move(early)), later_(loop) {}

  void read(StreamReader& reader) override {
    reader_ = &reader;
    if (early_.empty()) return inner_->read(reader);
    later_.start<&ProxiedStream::on_later>(0, this);
  }
  void pause() override {
    later_.stop();
    inner_->pause();
  }
  void write(Bytes bytes, Done<void> done) override { inner_->write(std::move(bytes), std::move(done)); }
  void shutdown(Done<void> done) override { inner_->shutdown(std::move(done)); }
  [[nodiscard]] size_t queued() const override { return inner_->queued(); }
  [[nodiscard]] const StreamAddress& peer_address() const override { return address_; }
  [[nodiscard]] std::optional<PeerCredentials> credentials() const override { return inner_->credentials(); }
  [[nodiscard]] int descriptor() const override { return inner_->descriptor(); }

 private:
  // The reader comes last: it may destroy this stream.
  void on_later() {
    const Bytes bytes = std::exchange(early_, {});
    inner_->read(*reader_);
    reader_->on_bytes(bytes);
  }

  std::unique_ptr<Stream> inner_;
  StreamAddress address_;
  Bytes early_;
  StreamReader* reader_ = nullptr;
  Timer later_;
};

}  // namespace

struct ProxyListener::Waiting final : StreamReader {
  Waiting(ProxyListener& listener, std::unique_ptr<Stream> accepted)
      : owner(listener), stream(std::move(accepted)), deadline(listener.loop_) {}

  void on_bytes(BytesView more) override {
    append(bytes, more);
    auto header = read_proxy_header(bytes);
    if (!header) return owner.refuse(*this, header.error());
    if (!*header) return;
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>((*header)->size));
    owner.hand_on(*this, std::move((*header)->source), std::move(bytes));
  }
  void on_end(std::optional<Error> error) override {
    owner.refuse(*this, error ? *error : Error{Code::unavailable, "closed before a PROXY header or anything else"});
  }
  void on_deadline() { owner.refuse(*this, {Code::deadline_exceeded, "no PROXY header within its time"}); }

  ProxyListener& owner;
  Bytes bytes;
  std::unique_ptr<Stream> stream;
  Timer deadline;
  std::list<std::unique_ptr<Waiting>>::iterator place;
};

ProxyListener::ProxyListener(Loop& loop, std::vector<IpRange> trusted, ListenerClient& next, GrpcServerEvents* events)
    : loop_(loop), trusted_(std::move(trusted)), next_(next), events_(events) {}
ProxyListener::~ProxyListener() = default;

bool ProxyListener::trusts(const StreamAddress& address) const {
  const auto ip = parse_ip(address.ip);
  return ip && std::ranges::any_of(trusted_, [&](const IpRange& range) { return range.contains(*ip); });
}

void ProxyListener::on_connection(std::unique_ptr<Stream> stream) {
  if (!trusts(stream->peer_address())) return next_.on_connection(std::move(stream));
  waiting_.push_back(std::make_unique<Waiting>(*this, std::move(stream)));
  Waiting& one = *waiting_.back();
  one.place = std::prev(waiting_.end());
  if (waiting_.size() > limits::kProxyWaiting) {
    return refuse(one, {Code::resource_exhausted, "more than " + std::to_string(limits::kProxyWaiting) +
                                                      " connections whose PROXY header has not come"});
  }
  one.deadline.start<&Waiting::on_deadline>(limits::kProxyHeaderMs, &one);
  one.stream->read(one);
}

std::unique_ptr<ProxyListener::Waiting> ProxyListener::take(Waiting& one) {
  std::unique_ptr<Waiting> held = std::move(*one.place);
  waiting_.erase(held->place);
  return held;
}

void ProxyListener::refuse(Waiting& one, const Error& why) {
  const std::unique_ptr<Waiting> held = take(one);
  if (events_ != nullptr) events_->on_connection_refused(describe_peer(*held->stream), why);
}

void ProxyListener::hand_on(Waiting& one, std::optional<StreamAddress> source, Bytes early) {
  const std::unique_ptr<Waiting> held = take(one);
  held->stream->pause();
  StreamAddress address = source ? std::move(*source) : held->stream->peer_address();
  next_.on_connection(
      std::make_unique<ProxiedStream>(loop_, std::move(held->stream), std::move(address), std::move(early)));
}

}  // namespace limpet::wire
