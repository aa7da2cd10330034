// SPDX-License-Identifier: Apache-2.0
#include "cli/rpc.h"

#include "cli/session.h"

namespace limpet::cli {

std::string rpc_text(const Error& error) {
  return "rpc error: code = " + code_name(error.code) + " desc = " + error.message;
}

Result<void> Rpc::connect() {
  if (channel_ != nullptr && channel_->usable()) return {};
  Waiter<std::unique_ptr<wire::Channel>> waiter(loop_);
  wire::DialOptions options;
  options.unix_path = socket_path_;
  wire::dial(loop_, std::move(options), waiter.done());
  auto channel = waiter.wait();
  if (!channel) {
    Error error = std::move(channel).error();
    const auto place = error.message.find("dial unix ");
    if (role_ == kServer && place != std::string::npos) error.message.insert(place + 10, "//");
    return std::unexpected(std::move(error));
  }
  channel_ = std::move(*channel);
  return {};
}

Result<Bytes> Rpc::call_bytes(std::string_view method, Bytes request, wire::CallOptions options) {
  TRY(connect());
  Waiter<Bytes> waiter(loop_);
  wire::UnaryBytesCall unary;
  unary.start(*channel_, method, std::move(request), std::move(options), waiter.done());
  return waiter.wait();
}

int with_rpc(Context& context, unsigned role, const std::function<int(Rpc& rpc, bool json)>& body) {
  const auto json = wants_json(*context.flags);
  if (!json) return failed(json.error());
  const auto socket = socket_path(context, role);
  if (!socket) return failed(socket.error());
  Rpc rpc(*socket, role);
  return body(rpc, *json);
}

}  // namespace limpet::cli
