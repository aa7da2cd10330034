// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernel knows about the other end of an accepted stream: credentials, a pidfd, the process's start time and
// executable. Loop thread; a few system calls, none of which blocks.

#include "loop/stream.h"
#include "wire/grpc.h"

namespace limpet::wire {

// The descriptor in `pidfd` belongs to the caller.
Peer describe_peer(const Stream& stream);

// The same for a process that somebody names. Without credentials there is none of this number. The descriptor in
// `pidfd` belongs to the caller.
Peer describe_process(int32_t pid);

// Whether the peer's process lives, and with the user, the group and the executable it had then: a process can become
// another one by execve(), and with a set-user-ID file somebody else's.
bool is_still_the_same(const Peer& peer);

// Effective user and group; nullopt: there is no such process, or it cannot be seen.
std::optional<PeerCredentials> process_credentials(int32_t pid);
// Fills executable_device and executable_inode, 0 when not readable.
void read_executable(int32_t pid, Peer& peer);

// Field 22 of /proc/<pid>/stat, clock ticks since boot; 0: unknown.
uint64_t process_start_time(int32_t pid);

// Whom a per-peer bound counts: "uid:1000" or the IP address.
std::string peer_key(const Peer& peer);

}  // namespace limpet::wire
