// SPDX-License-Identifier: Apache-2.0
#include "loop/uv_stream.h"
#include "wire/client_channel.h"
#include "wire/grpc_client.h"
#include "wire/tls_session.h"

namespace limpet::wire {
namespace {

std::string authority_of(const DialOptions& options) {
  if (!options.unix_path.empty()) return "localhost";
  const bool v6 = options.host.find(':') != std::string::npos;
  return (v6 ? '[' + options.host + ']' : options.host) + ':' + std::to_string(options.port);
}

Error dial_error(Error error) {
  return Error{Code::unavailable, "connection error: desc = \"transport: Error while dialing: " + error.message + '"'};
}

// One dial: connect, TLS, HTTP/2 settings. The asker holds nothing but his Pending, so the loop keeps the flow.
class DialFlow final : public LoopGuest {
 public:
  DialFlow(UvLoop& loop, DialOptions options, Done<std::unique_ptr<Channel>> done)
      : loop_(loop), options_(std::move(options)), done_(std::move(done)), timer_(loop) {}

  void start() {
    timer_.start<&DialFlow::on_timeout>(options_.timeout_ms, this);
    if (!options_.unix_path.empty()) {
      dial_unix(loop_, options_.unix_path, connected_.then<&DialFlow::on_stream>(this));
    } else {
      dial_tcp(loop_, options_.host, options_.port, options_.timeout_ms, connected_.then<&DialFlow::on_stream>(this));
    }
  }

 private:
  // 1. the socket is connected
  void on_stream(Result<std::unique_ptr<Stream>> stream) {
    if (!stream) return end(fail(dial_error(std::move(stream).error())));
    if (options_.tls == nullptr) return open(std::move(*stream), {});
    if (!done_.wanted()) return end(fail(Code::cancelled, "nobody waits"));  // the policy may be gone with the asker
    handshake_ = TlsHandshake::connect(loop_, contexts_, *options_.tls, std::move(*stream),
                                       secured_.then<&DialFlow::on_secured>(this));
  }
  // 2. TLS is through
  void on_secured(Result<TlsConnected> secured) {
    if (!secured) {
      return end(fail(Code::unavailable, "connection error: desc = \"transport: authentication handshake failed: " +
                                             secured.error().message + '"'));
    }
    open(std::move(secured->stream), std::move(secured->chain));
  }
  void open(std::unique_ptr<Stream> stream, std::vector<Bytes> chain) {
    channel_ = std::make_unique<ClientChannel>(loop_, std::move(stream), authority_of(options_), std::move(chain));
    channel_->when_open(opened_.then<&DialFlow::on_open>(this));
  }
  // 3. the server's SETTINGS came
  void on_open(Result<void> opened) {
    if (!opened) {
      constexpr std::string_view kReading = "error reading from server: ";
      std::string why = std::move(opened.error().message);
      if (why.starts_with(kReading)) why.replace(0, kReading.size(), "error reading server preface: ");
      return end(fail(Code::unavailable, "connection error: desc = \"" + why + '"'));
    }
    channel_->keep_alive(options_.keepalive_ms);
    end(std::move(channel_));
  }
  void on_timeout() {
    const std::string target =
        options_.unix_path.empty() ? "tcp " + authority_of(options_) : "unix " + options_.unix_path;
    const char* what = channel_     ? "error reading server preface: "
                       : handshake_ ? "authentication handshake failed: "
                                    : nullptr;
    if (what == nullptr) return end(fail(dial_error(Error{Code::unavailable, "dial " + target + ": i/o timeout"})));
    end(fail(Code::unavailable,
             std::string("connection error: desc = \"transport: ") + what + "context deadline exceeded\""));
  }

  void end(Result<std::unique_ptr<Channel>> result) {
    timer_.stop();
    connected_.drop();
    secured_.drop();
    opened_.drop();
    loop_.post([done = std::move(done_), answer = std::move(result)]() mutable { done(std::move(answer)); });
    loop_.dismiss(*this);
  }

  UvLoop& loop_;
  DialOptions options_;
  Done<std::unique_ptr<Channel>> done_;
  Timer timer_;
  TlsContexts contexts_;
  std::unique_ptr<TlsHandshake> handshake_;
  std::unique_ptr<ClientChannel> channel_;
  Pending<std::unique_ptr<Stream>> connected_;  // these go first, so that nothing above calls back while it dies
  Pending<TlsConnected> secured_;
  Pending<void> opened_;
};

}  // namespace

void dial(UvLoop& loop, DialOptions options, Done<std::unique_ptr<Channel>> done) {
  auto flow = std::make_unique<DialFlow>(loop, std::move(options), std::move(done));
  DialFlow& started = *flow;
  loop.keep(std::move(flow));
  started.start();
}

}  // namespace limpet::wire
