// SPDX-License-Identifier: Apache-2.0
#include "cli/rpc.h"

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

}  // namespace limpet::cli
