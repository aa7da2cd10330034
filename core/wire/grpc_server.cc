// SPDX-License-Identifier: Apache-2.0
#include "wire/grpc_server.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/limits.h"
#include "crypto/key.h"
#include "wire/peer_info.h"
#include "wire/server_connection.h"
#include "wire/tls_session.h"

namespace limpet::wire {
namespace {

constexpr int64_t kFairHandshakeMs = 5'000;

// "/pkg.Service/Method" -> "pkg.Service" and "Method"; empty service: malformed.
std::pair<std::string_view, std::string_view> split_method(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (path.empty() || path.front() != '/' || slash == 0) return {};
  return {path.substr(1, slash - 1), path.substr(slash + 1)};
}

}  // namespace

struct GrpcServer::Impl final : ServerConnectionOwner {
  // A connection from accept to its end.
  struct Slot {
    Impl& server;
    Peer peer;
    std::string key;
    std::unique_ptr<TlsHandshake> handshake;
    Pending<TlsConnected> connected;
    std::unique_ptr<ServerConnection> connection;
    int64_t accepted_ms = 0;
    bool over = false;

    explicit Slot(Impl& owner) : server(owner) {}
    ~Slot() {
      connection.reset();
      if (peer.pidfd >= 0) close(peer.pidfd);
    }
    void on_connected(Result<TlsConnected> result) { server.on_handshake(*this, std::move(result)); }
  };

  Impl(Loop& l, GrpcServerOptions o, GrpcServerEvents* e)
      : loop(l), options(o), events(e), reaper(l), stop_timer(l), random(random_seed()) {
    if (options.max_connections == 0) {
      options.max_connections = std::min(limits::kConnections, room());
      // nobody takes all that few open files leave
      const size_t share = std::min(limits::kConnectionsPerPeer, options.max_connections * 3 / 4);
      if (options.max_connections_per_peer == 0) options.max_connections_per_peer = share;
    }
    if (options.max_connections_per_peer == 0) options.max_connections_per_peer = limits::kConnectionsPerPeer;
  }

  // What the process's limit of open files leaves: a connection may have two, its own and its process's.
  static size_t room() {
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) return limits::kConnections;
    const auto most = static_cast<size_t>(files.rlim_cur);
    return most <= 2 * limits::kDescriptorsKept ? limits::kDescriptorsKept / 2 : (most - limits::kDescriptorsKept) / 2;
  }
  void accept(std::unique_ptr<Stream> stream);
  bool make_room(const std::string& key);
  bool shed_idle(const std::string* key);
  void on_handshake(Slot& slot, Result<TlsConnected> result);
  void serve(Slot& slot, std::unique_ptr<Stream> stream);
  void retire(Slot& slot);
  void reap();
  void refused(const Peer& peer, const Error& why) {
    if (events != nullptr) events->on_connection_refused(peer, why);
  }
  void check_stopped();
  void on_grace_over();
  int64_t jittered_age();
  size_t count(const std::string& key) const {
    const auto found = per_key.find(key);
    return found == per_key.end() ? 0 : found->second;
  }

  // ServerConnectionOwner
  Result<std::unique_ptr<ServerFlow>> open_flow(ServerCall& call) override;
  void on_call_begun(const ServerCall& call) override {
    if (events != nullptr) events->on_call_begun(call.method(), call.peer());
  }
  void on_call_over(const ServerCall& call, Code status, int64_t elapsed_ms) override {
    if (events != nullptr) events->on_call_over(call.method(), call.peer(), status, elapsed_ms);
  }
  void on_connection_over(ServerConnection& connection) override;
  void on_abuse(const Peer& peer, const Error& why) override { refused(peer, why); }
  void on_idle_changed() override {}
  void on_held_in(size_t delta) override { held += delta; }
  [[nodiscard]] size_t held_in() const override { return held; }

  Loop& loop;
  GrpcServerOptions options;
  GrpcServerEvents* events;
  std::map<std::string, Service*, std::less<>> services;
  std::map<std::string, size_t> per_key;
  std::map<uint64_t, std::unique_ptr<Slot>> slots;  // by connection number
  std::vector<std::unique_ptr<Slot>> finished;      // destroyed by reap()
  uint64_t next_number = 1;
  size_t held = 0;
  bool stopping = false;
  Done<void> stopped;
  TlsContexts contexts;
  Timer reaper;
  Timer stop_timer;
  static uint32_t random_seed() {
    uint32_t seed = 0;
    random_bytes(&seed, sizeof seed);
    return seed;
  }

  std::minstd_rand random;  // only spreads connection ages
};

void GrpcServer::Impl::accept(std::unique_ptr<Stream> stream) {
  auto slot = std::make_unique<Slot>(*this);
  slot->peer = describe_peer(*stream);
  slot->peer.connection = next_number++;
  slot->accepted_ms = loop.now_ms();
  slot->key = peer_key(slot->peer);
  if (stopping) return;
  if (!make_room(slot->key)) {
    const bool peer_full = count(slot->key) >= options.max_connections_per_peer;
    const size_t bound = peer_full ? options.max_connections_per_peer : options.max_connections;
    return refused(slot->peer,
                   Error{Code::resource_exhausted, (peer_full ? slot->key + " has " : "the listener has ") +
                                                       std::to_string(bound) + " connections, the most allowed"});
  }
  ++per_key[slot->key];
  Slot& placed = *(slots[slot->peer.connection] = std::move(slot));
  if (options.tls == nullptr) return serve(placed, std::move(stream));
  placed.handshake = TlsHandshake::accept(loop, contexts, *options.tls, std::move(stream),
                                          placed.connected.then<&Slot::on_connected>(&placed));
}

// Sheds the connection that is idle longest when a bound is reached.
bool GrpcServer::Impl::make_room(const std::string& key) {
  if (count(key) >= options.max_connections_per_peer && !shed_idle(&key)) return false;
  return slots.size() < options.max_connections || shed_idle(nullptr);
}

bool GrpcServer::Impl::shed_idle(const std::string* key) {
  Slot* longest = nullptr;
  int64_t since = 0;
  for (auto& [number, slot] : slots) {
    if ((slot->connection && slot->connection->busy()) || (key != nullptr && slot->key != *key)) continue;
    // A handshake gets its fair time before it counts as idle, and so does a call that is still to say what it wants.
    const bool settled = slot->connection && slot->connection->calls() == 0;
    const int64_t idle = settled ? slot->connection->idle_since_ms() : slot->accepted_ms + kFairHandshakeMs;
    if (idle > loop.now_ms() || (longest != nullptr && idle >= since)) continue;
    longest = slot.get();
    since = idle;
  }
  if (longest == nullptr) return false;
  if (longest->connection) longest->connection->drain();  // its GOAWAY leaves before reap()
  retire(*longest);
  return true;
}

void GrpcServer::Impl::on_handshake(Slot& slot, Result<TlsConnected> result) {
  if (!result) {
    refused(slot.peer, result.error());
    return retire(slot);
  }
  slot.handshake.reset();
  slot.peer.chain = std::move(result->chain);
  serve(slot, std::move(result->stream));
}

void GrpcServer::Impl::serve(Slot& slot, std::unique_ptr<Stream> stream) {
  slot.connection = std::make_unique<ServerConnection>(loop, std::move(stream), slot.peer, jittered_age(), *this);
  if (stopping) slot.connection->drain();
}

int64_t GrpcServer::Impl::jittered_age() {
  const int64_t age = options.connection_age_ms;
  if (age <= 0) return 0;
  return age + std::uniform_int_distribution<int64_t>(-age / 10, age / 10)(random);
}

Result<std::unique_ptr<ServerFlow>> GrpcServer::Impl::open_flow(ServerCall& call) {
  const auto [service, method] = split_method(call.method());
  if (service.empty()) {
    return fail(Code::unimplemented, "malformed method name: \"" + std::string(call.method()) + '"');
  }
  const auto found = services.find(service);
  if (found == services.end()) return fail(Code::unimplemented, "unknown service " + std::string(service));
  auto flow = found->second->open(call);
  if (!flow) {
    return fail(Code::unimplemented, "unknown method " + std::string(method) + " for service " + std::string(service));
  }
  return flow;
}

void GrpcServer::Impl::on_connection_over(ServerConnection& connection) {
  if (const auto found = slots.find(connection.peer().connection); found != slots.end()) retire(*found->second);
}

// The slot no longer counts; what it holds dies at a later turn, because the caller may stand inside it.
void GrpcServer::Impl::retire(Slot& slot) {
  if (std::exchange(slot.over, true)) return;
  if (--per_key[slot.key] == 0) per_key.erase(slot.key);
  auto node = slots.extract(slot.peer.connection);
  finished.push_back(std::move(node.mapped()));
  reaper.start<&Impl::reap>(0, this);
}

void GrpcServer::Impl::reap() {
  auto dying = std::exchange(finished, {});
  dying.clear();
  check_stopped();
}

void GrpcServer::Impl::check_stopped() {
  if (!stopping || !slots.empty() || !finished.empty()) return;
  stop_timer.stop();
  Done<void> done = std::move(stopped);
  done({});
}

void GrpcServer::Impl::on_grace_over() {
  while (!slots.empty()) retire(*slots.begin()->second);
  reaper.start<&Impl::reap>(0, this);
}

GrpcServer::GrpcServer(Loop& loop, GrpcServerOptions options, GrpcServerEvents* events)
    : impl_(std::make_unique<Impl>(loop, options, events)) {}
GrpcServer::~GrpcServer() = default;

void GrpcServer::add(std::string name, Service& service) { impl_->services[std::move(name)] = &service; }
void GrpcServer::on_connection(std::unique_ptr<Stream> stream) { impl_->accept(std::move(stream)); }
size_t GrpcServer::connections() const { return impl_->slots.size(); }

void GrpcServer::stop(int64_t grace_ms, Done<void> done) {
  impl_->stopping = true;
  impl_->stopped = std::move(done);
  for (auto& [number, slot] : impl_->slots) {
    if (slot->connection) slot->connection->drain();
  }
  impl_->stop_timer.start<&Impl::on_grace_over>(grace_ms, impl_.get());
  impl_->reaper.start<&Impl::reap>(0, impl_.get());
}

}  // namespace limpet::wire
