// SPDX-License-Identifier: Apache-2.0
#include "wire/http_server.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/limits.h"
#include "wire/http_connection.h"
#include "wire/peer_info.h"
#include "wire/tls_session.h"

namespace limpet::wire {

namespace {

constexpr int64_t kFairMs = 2'000;  // a handshake or first request in progress does not count as idle before

}  // namespace

struct HttpServer::Impl final : HttpConnectionOwner {
  // A connection from accept to its end.
  struct Slot {
    Impl& server;
    Peer peer;
    std::string key;
    std::unique_ptr<TlsHandshake> handshake;
    Pending<TlsConnected> connected;
    std::unique_ptr<HttpConnection> connection;
    int64_t accepted_ms = 0;

    explicit Slot(Impl& owner) : server(owner) {}
    ~Slot() {
      connection.reset();
      if (peer.pidfd >= 0) close(peer.pidfd);
    }
    void on_connected(Result<TlsConnected> result) { server.on_handshake(*this, std::move(result)); }
  };

  Impl(Loop& l, const Clock& c, HttpServerOptions o, HttpHandler& h, HttpServerEvents* e)
      : loop(l), time(c), options(o), answers(h), events(e), reaper(l), stop_timer(l) {
    if (options.max_connections == 0) options.max_connections = limits::kHttpConnections;
    if (options.max_connections_per_peer == 0) options.max_connections_per_peer = limits::kHttpConnectionsPerPeer;
  }

  void accept(std::unique_ptr<Stream> stream);
  bool make_room(const std::string& key);
  bool shed_idle(const std::string* key);
  void on_handshake(Slot& slot, Result<TlsConnected> result);
  void retire(uint64_t number);
  void reap();
  void check_stopped();
  void on_grace_over();
  void refused(const Peer& peer, const Error& why) {
    if (events != nullptr) events->on_connection_refused(peer, why);
  }

  // HttpConnectionOwner
  HttpHandler& handler() override { return answers; }
  const Clock& clock() override { return time; }
  void on_connection_over(uint64_t connection) override { retire(connection); }
  void on_abuse(const Peer& peer, const Error& why) override { refused(peer, why); }

  Loop& loop;
  const Clock& time;
  HttpServerOptions options;
  HttpHandler& answers;
  HttpServerEvents* events;
  TlsContexts contexts{{.protocols = TlsProtocols::http, .ask_certificate = false, .server_name = {}}};
  std::map<std::string, size_t> per_key;
  std::map<uint64_t, std::unique_ptr<Slot>> slots;  // by connection number
  std::vector<std::unique_ptr<Slot>> finished;      // destroyed by reap()
  uint64_t next_number = 1;
  bool stopping = false;
  Done<void> stopped;
  Timer reaper;
  Timer stop_timer;
};

void HttpServer::Impl::accept(std::unique_ptr<Stream> stream) {
  auto slot = std::make_unique<Slot>(*this);
  slot->peer = describe_peer(*stream);
  slot->peer.connection = next_number++;
  slot->accepted_ms = loop.now_ms();
  slot->key = peer_key(slot->peer);
  if (stopping) return;
  if (!make_room(slot->key)) {
    return refused(slot->peer,
                   Error{Code::resource_exhausted,
                         "too many HTTP connections: at most " + std::to_string(options.max_connections) + ", and " +
                             std::to_string(options.max_connections_per_peer) + " for each peer"});
  }
  ++per_key[slot->key];
  Slot& placed = *(slots[slot->peer.connection] = std::move(slot));
  if (options.tls == nullptr) {
    placed.connection = http1_connection(loop, std::move(stream), placed.peer, false, *this);
    return;
  }
  placed.handshake = TlsHandshake::accept(loop, contexts, *options.tls, std::move(stream),
                                          placed.connected.then<&Slot::on_connected>(&placed));
}

// Sheds the connection that is idle longest when a bound is reached.
bool HttpServer::Impl::make_room(const std::string& key) {
  const auto found = per_key.find(key);
  if (found != per_key.end() && found->second >= options.max_connections_per_peer && !shed_idle(&key)) return false;
  return slots.size() < options.max_connections || shed_idle(nullptr);
}

bool HttpServer::Impl::shed_idle(const std::string* key) {
  Slot* longest = nullptr;
  int64_t since = 0;
  for (auto& [number, slot] : slots) {
    if ((slot->connection && slot->connection->busy()) || (key != nullptr && slot->key != *key)) continue;
    int64_t idle = slot->accepted_ms;
    if (slot->connection) idle = std::max(idle, slot->connection->idle_since_ms());
    if (idle + kFairMs > loop.now_ms() || (longest != nullptr && idle >= since)) continue;
    longest = slot.get();
    since = idle;
  }
  if (longest == nullptr) return false;
  retire(longest->peer.connection);
  return true;
}

void HttpServer::Impl::on_handshake(Slot& slot, Result<TlsConnected> result) {
  if (!result) {
    refused(slot.peer, result.error());
    return retire(slot.peer.connection);
  }
  slot.handshake.reset();
  slot.connection = result->http2 ? http2_connection(loop, std::move(result->stream), slot.peer, *this)
                                  : http1_connection(loop, std::move(result->stream), slot.peer, true, *this);
  if (stopping) slot.connection->drain();
}

// The slot no longer counts; what it holds dies at a later turn, because the caller may stand inside it.
void HttpServer::Impl::retire(uint64_t number) {
  auto node = slots.extract(number);
  if (node.empty()) return;
  if (--per_key[node.mapped()->key] == 0) per_key.erase(node.mapped()->key);
  finished.push_back(std::move(node.mapped()));
  reaper.start<&Impl::reap>(0, this);
}

void HttpServer::Impl::reap() {
  auto dying = std::exchange(finished, {});
  dying.clear();
  check_stopped();
}

void HttpServer::Impl::check_stopped() {
  if (!stopping || !slots.empty() || !finished.empty()) return;
  stop_timer.stop();
  Done<void> done = std::move(stopped);
  done({});
}

void HttpServer::Impl::on_grace_over() {
  while (!slots.empty()) retire(slots.begin()->first);
  reaper.start<&Impl::reap>(0, this);
}

HttpServer::HttpServer(Loop& loop, const Clock& clock, HttpServerOptions options, HttpHandler& handler,
                       HttpServerEvents* events)
    : impl_(std::make_unique<Impl>(loop, clock, options, handler, events)) {}
HttpServer::~HttpServer() = default;

void HttpServer::on_connection(std::unique_ptr<Stream> stream) { impl_->accept(std::move(stream)); }
size_t HttpServer::connections() const { return impl_->slots.size(); }

void HttpServer::stop(int64_t grace_ms, Done<void> done) {
  impl_->stopping = true;
  impl_->stopped = std::move(done);
  for (auto& [number, slot] : impl_->slots) {
    if (slot->connection) slot->connection->drain();
  }
  impl_->stop_timer.start<&Impl::on_grace_over>(grace_ms, impl_.get());
  impl_->reaper.start<&Impl::reap>(0, impl_.get());
}

}  // namespace limpet::wire
