// SPDX-License-Identifier: Apache-2.0
#pragma once
// One HTTP or HTTPS endpoint of the server: a handler, its certificate, its listener, and what the log says of them.
// Owned by Server; loop thread only.

#include <memory>
#include <string>

#include "base/clock.h"
#include "loop/uv_stream.h"
#include "report/log.h"
#include "wire/http_server.h"
#include "wire/web_tls.h"

namespace limpet::server {

class WebEndpoint final : public wire::HttpServerEvents, public wire::WebServerTlsEvents {
 public:
  // `name`, as the log has it: "Bundle endpoint".
  WebEndpoint(UvLoop& loop, const Clock& clock, Logger& logger, std::string name,
              std::unique_ptr<wire::HttpHandler> handler);
  ~WebEndpoint() override;
  WebEndpoint(const WebEndpoint&) = delete;
  WebEndpoint& operator=(const WebEndpoint&) = delete;

  // Before listening; neither of both: plain HTTP.
  void use(wire::TlsPolicy& policy) { policy_ = &policy; }
  Result<void> use_files(wire::WebServerFiles files);
  Result<void> listen(const std::string& address, uint16_t port);
  Result<void> listen(const std::string& socket_path);
  [[nodiscard]] uint16_t port() const { return listener_->port(); }

  void on_certificate_changed() override;
  void on_certificate_refused(const Error& why) override;
  void on_connection_refused(const wire::Peer& peer, const Error& why) override;

 private:
  wire::HttpServer& server();

  UvLoop& loop_;
  const Clock& clock_;
  Logger& logger_;
  std::string name_;
  wire::TlsPolicy* policy_ = nullptr;
  std::unique_ptr<wire::WebServerTls> files_;
  std::unique_ptr<wire::HttpHandler> handler_;
  // Order matters: a listener hands connections to its server until it dies.
  std::unique_ptr<wire::HttpServer> server_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace limpet::server
