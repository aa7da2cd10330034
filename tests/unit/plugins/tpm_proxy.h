// SPDX-License-Identifier: Apache-2.0
#pragma once
// A socket in front of a software TPM that lets a test answer commands itself: a TPM that is busy, one that lies.

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/bytes.h"

namespace limpet::test {

// A response of ten bytes: no sessions, that response code.
inline Bytes tpm_response(uint32_t rc) {
  Bytes out = {0x80, 0x01, 0, 0, 0, 10};
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(rc >> shift));
  return out;
}

// TPM2_PCR_Extend of a SHA-256 PCR.
inline Bytes extend_command(uint8_t pcr) {
  Bytes out = {0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, pcr};  // the length, the code, the PCR
  append(out,
         Bytes{0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b});  // an empty password; one digest
  out.resize(65, 0x5a);
  return out;
}

class TpmProxy {
 public:
  // What to answer to a command; none: the TPM's own answer. Called on the proxy's thread. An empty one hangs up.
  using Answer = std::function<std::optional<Bytes>(uint32_t command_code)>;

  // What to do to the TPM's own answer. Called on the proxy's thread.
  using Change = std::function<void(uint32_t command_code, Bytes& answer)>;

  // What the TPM is told before a command that goes to it; empty: nothing. Called on the proxy's thread.
  using Ahead = std::function<Bytes(uint32_t command_code)>;

  TpmProxy(const std::string& path, std::string tpm, Answer answer, Change change = nullptr, Ahead ahead = nullptr)
      : tpm_(std::move(tpm)),
        answer_(std::move(answer)),
        change_(std::move(change)),
        ahead_(std::move(ahead)),
        listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = address_of(path);
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 16) != 0) {
      std::abort();
    }
    thread_ = std::thread([this] { serve(); });
  }
  ~TpmProxy() {
    stop_ = true;
    thread_.join();
    ::close(listener_);
  }
  // Everything that passed, both ways.
  [[nodiscard]] Bytes seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  TpmProxy(const TpmProxy&) = delete;
  TpmProxy& operator=(const TpmProxy&) = delete;

 private:
  static sockaddr_un address_of(const std::string& path) {
    sockaddr_un out = {};
    out.sun_family = AF_UNIX;
    std::strncpy(out.sun_path, path.c_str(), sizeof out.sun_path - 1);
    return out;
  }
  bool readable(int fd) {
    pollfd item = {fd, POLLIN, 0};
    while (!stop_) {
      if (::poll(&item, 1, 20) > 0) return true;
    }
    return false;
  }
  void serve() {
    while (readable(listener_)) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int tpm = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_un address = address_of(tpm_);
      if (::connect(tpm, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) relay(client, tpm);
      ::close(tpm);
      ::close(client);
    }
  }
  void relay(int client, int tpm) {
    std::array<uint8_t, 4096> buffer = {};
    while (readable(client)) {
      const ssize_t got = ::recv(client, buffer.data(), buffer.size(), 0);
      if (got < 10) return;
      const uint32_t code =
          uint32_t{buffer[6]} << 24 | uint32_t{buffer[7]} << 16 | uint32_t{buffer[8]} << 8 | buffer[9];
      if (const auto own = answer_(code)) {
        if (own->empty()) return;
        ::send(client, own->data(), own->size(), MSG_NOSIGNAL);
        continue;
      }
      if (ahead_ && !tell(tpm, ahead_(code))) return;
      note(BytesView(buffer).first(static_cast<size_t>(got)));
      ::send(tpm, buffer.data(), static_cast<size_t>(got), MSG_NOSIGNAL);
      if (!readable(tpm)) return;
      const ssize_t answered = ::recv(tpm, buffer.data(), buffer.size(), 0);
      if (answered <= 0) return;
      Bytes theirs(buffer.begin(), buffer.begin() + answered);
      note(theirs);
      if (change_) change_(code, theirs);
      ::send(client, theirs.data(), theirs.size(), MSG_NOSIGNAL);
    }
  }

  bool tell(int tpm, BytesView command) {
    std::array<uint8_t, 4096> answer = {};
    if (command.empty()) return true;
    ::send(tpm, command.data(), command.size(), MSG_NOSIGNAL);
    return readable(tpm) && ::recv(tpm, answer.data(), answer.size(), 0) > 0;
  }
  void note(BytesView text) {
    const std::lock_guard lock(mutex_);
    append(seen_, text);
  }

  const std::string tpm_;
  const Answer answer_;
  const Change change_;
  const Ahead ahead_;
  mutable std::mutex mutex_;
  Bytes seen_;  // guarded by mutex_
  const int listener_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace limpet::test
