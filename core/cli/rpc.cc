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
  TRY_ASSIGN(channel_, waiter.wait());
  return {};
}

}  // namespace limpet::cli
