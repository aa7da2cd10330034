// SPDX-License-Identifier: Apache-2.0
#include "server/web_endpoint.h"

namespace limpet::server {
namespace {
constexpr uint32_t kSocketMode = 0777;  // what is served is public
}

WebEndpoint::WebEndpoint(UvLoop& loop, const Clock& clock, Logger& logger, std::string name,
                         std::unique_ptr<wire::HttpHandler> handler)
    : loop_(loop), clock_(clock), logger_(logger), name_(std::move(name)), handler_(std::move(handler)) {}
WebEndpoint::~WebEndpoint() = default;

Result<void> WebEndpoint::use_files(wire::WebServerFiles files) {
  TRY_ASSIGN(files_, wire::WebServerTls::load(loop_, std::move(files), this));
  policy_ = files_.get();
  return {};
}

wire::HttpServer& WebEndpoint::server() {
  wire::HttpServerOptions options;
  options.tls = policy_;
  server_ = std::make_unique<wire::HttpServer>(loop_, clock_, options, *handler_, this);
  return *server_;
}

Result<void> WebEndpoint::listen(const std::string& address, uint16_t port) {
  TRY_ASSIGN(listener_, listen_tcp(loop_, address, port, server()));
  return {};
}
Result<void> WebEndpoint::listen(const std::string& socket_path) {
  TRY_ASSIGN(listener_, listen_unix(loop_, socket_path, kSocketMode, server()));
  return {};
}

void WebEndpoint::on_certificate_changed() { logger_.info(name_ + " has a new certificate"); }
void WebEndpoint::on_certificate_refused(const Error& why) {
  logger_.warn(name_ + " keeps its certificate, the files are not usable", {{"error", why.text()}});
}
void WebEndpoint::on_connection_refused(const wire::Peer& peer, const Error& why) {
  logger_.from_stranger(LogLevel::warn, "Connection refused",
                        {{"caller_addr", peer.address.text()}, {"error", why.text()}});
}

}  // namespace limpet::server
