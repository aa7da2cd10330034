// SPDX-License-Identifier: Apache-2.0
#pragma once
// What commands print, line by line as SPIRE's commands print it, and the few things every command shares.

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/command.h"
#include "proto/spire_agent.pb.h"
#include "proto/spire_entry.pb.h"
#include "proto/spire_types.pb.h"

namespace limpet::cli {

// Flags that nearly every command has.
Flag server_socket_flag();  // -socketPath
Flag agent_socket_flag();
Flag admin_socket_flag();  // the agent's
Flag output_flag();        // -output pretty|json
Flag instance_flag();      // -instance: fills %i of the socket template in the environment

// The socket to ask: -socketPath, or -instance through SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE or its agent twin.
Result<std::string> socket_path(const Context& context, unsigned role);
// True for -output json. INVALID_ARGUMENT for any other word but "pretty".
Result<bool> wants_json(const Flags& flags);

// Prints "Error: <text>" to standard error; the exit code 1.
int failed(const Error& error);  // a local error: its message
int failed(std::string_view prefix,
           const Error& error);  // an rpc's: "<prefix>: rpc error: code = ..."; prefix may be empty

std::string counted(uint64_t count, std::string_view one, std::string_view many);  // "1 entry", "2 entries"
std::string go_duration(int64_t nanoseconds);                                      // "3.341999ms", "1h2m3s"
std::string go_quoted(std::string_view text);  // in quotes, quotes and backslashes inside escaped: Go's %q
std::string id_text(bool present, const spire_api_types_SPIFFEID& id);
std::string describe_entry(const spire_api_types_Entry& entry);  // the block and its empty line
std::string describe_agent(const spire_api_types_Agent& agent);

// Writes a file with the given mode, replacing what is there. UNAVAILABLE in Go's words: "open X: permission denied".
Result<void> write_file(const std::string& path, std::string_view content, uint32_t mode);
Result<std::string> read_file(const std::string& path);  // "-": standard input; at most 64 MiB

// A counter on a terminal's standard error while something long goes on; silent elsewhere.
class Progress {
 public:
  Progress(std::string_view what, size_t total);
  ~Progress();
  void at(size_t done);

 private:
  std::string what_;
  size_t total_;
  bool shown_ = false;
};

}  // namespace limpet::cli
