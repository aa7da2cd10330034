// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernel knows about the other end of an accepted stream: credentials, a pidfd, the process's start time. Loop
// thread; three system calls, none of which blocks.

#include "loop/stream.h"
#include "wire/grpc.h"

namespace limpet::wire {

// The descriptor in `pidfd` belongs to the caller.
Peer describe_peer(const Stream& stream);

// The same for a process that somebody names. Without credentials there is none of this number. The descriptor in
// `pidfd` belongs to the caller.
Peer describe_process(int32_t pid);

// Field 22 of /proc/<pid>/stat, clock ticks since boot; 0: unknown.
uint64_t process_start_time(int32_t pid);

// Whom a per-peer bound counts: "uid:1000" or the IP address.
std::string peer_key(const Peer& peer);

}  // namespace limpet::wire
