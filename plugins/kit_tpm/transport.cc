// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/transport.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/errno_text.h"

namespace limpet::tpm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr size_t kHeaderBytes = 10;
constexpr int kMostDevices = 16;  // of a kind

std::unexpected<Error> gone(const std::string& name, const std::string& what) {
  return fail(Code::unavailable, "TPM " + name + ": " + what);
}

// What is left until `end`, for poll().
int left_ms(Clock::time_point end) {
  const int64_t left = std::chrono::duration_cast<milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::min<int64_t>(std::max<int64_t>(left, 0), 600'000));
}

bool wait_for(int fd, short events, Clock::time_point end) {
  pollfd item = {fd, events, 0};
  for (;;) {
    const int got = ::poll(&item, 1, left_ms(end));
    if (got < 0 && errno == EINTR) continue;
    return got > 0;
  }
}

Result<int> open_device(const std::string& path, Clock::time_point end) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) return fd;
    const int why = errno;
    if (why == EINTR) continue;
    // /dev/tpm0 lets one program in at a time
    if (why == EBUSY && Clock::now() < end) {
      std::this_thread::sleep_for(milliseconds(20));
      continue;
    }
    const bool denied = why == EACCES || why == EPERM;
    return fail(denied ? Code::permission_denied : Code::unavailable,
                "TPM " + path + ": cannot be opened: " + errno_text(why) +
                    (denied          ? "; let this user read and write it (group tss)"
                     : why == EBUSY  ? "; another program holds it: use /dev/tpmrm0"
                     : why == ENOENT ? "; load the TPM's driver, or name another in `device`"
                                     : ""));
  }
}

Result<void> finish_connect(int fd, int rc, const std::string& name, Clock::time_point end) {
  if (rc == 0) return {};
  if (errno != EINPROGRESS) return gone(name, "cannot connect: " + errno_text(errno));
  if (!wait_for(fd, POLLOUT, end)) return gone(name, "cannot connect: no answer");
  int why = 0;
  socklen_t size = sizeof why;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size) != 0) why = errno;
  if (why != 0) return gone(name, "cannot connect: " + errno_text(why));
  return {};
}

Result<int> connect_to(const sockaddr* address, socklen_t size, const std::string& name, Clock::time_point end) {
  const int fd = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return gone(name, "socket: " + errno_text(errno));
  int rc = ::connect(fd, address, size);
  while (rc != 0 && errno == EAGAIN && Clock::now() < end) {  // a Unix socket's queue is full: nothing is under way
    std::this_thread::sleep_for(milliseconds(10));
    rc = ::connect(fd, address, size);
  }
  auto connected = finish_connect(fd, rc, name, end);
  if (connected) return fd;
  ::close(fd);
  return fail(std::move(connected).error());
}

Result<int> open_socket(const std::string& path, Clock::time_point end) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return gone(path, "the socket's path is too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  return connect_to(reinterpret_cast<const sockaddr*>(&address), sizeof address, path, end);
}

Result<int> open_tcp(const Address& to, Clock::time_point end) {
  addrinfo wish = {};
  wish.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int rc = ::getaddrinfo(to.host.c_str(), to.port.c_str(), &wish, &found); rc != 0) {
    return gone(to.text(), std::string("its name cannot be resolved: ") + ::gai_strerror(rc));
  }
  Result<int> fd = gone(to.text(), "no address");
  for (const addrinfo* at = found; at != nullptr && !fd; at = at->ai_next) {
    fd = connect_to(at->ai_addr, at->ai_addrlen, to.text(), end);
  }
  ::freeaddrinfo(found);
  return fd;
}

Result<Address> parse_swtpm(std::string_view text) {
  Address out;
  out.kind = Address::Kind::tcp;
  out.host = "127.0.0.1";
  out.port = "2321";
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    const std::string value(equals == std::string_view::npos ? "" : item.substr(equals + 1));
    if (value.empty() || (key != "host" && key != "port" && key != "path")) {
      return fail(Code::invalid_argument, "swtpm: takes host=, port= and path=, not \"" + std::string(item) + "\"");
    }
    if (key == "path") out.kind = Address::Kind::socket;
    (key == "path" ? out.path : key == "host" ? out.host : out.port) = value;
  }
  if (out.kind == Address::Kind::tcp && out.port.find_first_not_of("0123456789") != std::string::npos) {
    return fail(Code::invalid_argument, "swtpm: the port \"" + out.port + "\" is not a number");
  }
  return out;
}

}  // namespace

std::string Address::text() const {
  if (kind == Kind::tcp) return "swtpm:host=" + host + ",port=" + port;
  return path.empty() ? "(the machine's own)" : path;
}

Result<Address> parse_address(std::string_view text) {
  if (text.starts_with("swtpm:")) return parse_swtpm(text.substr(6));
  Address out;
  if (text.starts_with("device:")) text.remove_prefix(7);
  if (!text.empty() && text[0] != '/') {
    return fail(Code::invalid_argument, "TPM \"" + std::string(text) +
                                            "\" is not known: write device:/dev/tpmrm0, "
                                            "swtpm:host=127.0.0.1,port=2321, or the path of a device or a socket");
  }
  out.path = text;
  return out;
}

// By name and not by listing the directory: Landlock keeps a plugin in its own process from that, and never from
// stat().
Result<std::string> find_device(const std::string& directory) {
  // The resource-managed nodes first: they let several programs in at a time.
  for (const char* kind : {"/tpmrm", "/tpm"}) {
    std::string found;
    for (int number = 0; number < kMostDevices; ++number) {
      std::string path = directory + kind + std::to_string(number);
      struct stat st = {};
      if (::stat(path.c_str(), &st) != 0) continue;
      if (!found.empty()) {
        return fail(Code::unavailable, "this machine has more than one TPM (" + found + ", " + path +
                                           "); name the one to use in `device`");
      }
      found = std::move(path);
    }
    if (!found.empty()) return found;
  }
  return fail(Code::unavailable,
              "this machine has no TPM: neither /dev/tpmrm0 nor /dev/tpm0 is there; load its driver, or name it in "
              "`device`");
}

Result<std::unique_ptr<Transport>> Transport::open(const Address& address, int64_t ms) {
  const Clock::time_point end = Clock::now() + milliseconds(ms);
  Address to = address;
  if (to.kind == Address::Kind::device) {
    if (to.path.empty()) {
      TRY_ASSIGN(to.path, find_device("/dev"));
    }
    struct stat st = {};
    if (::stat(to.path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode)) to.kind = Address::Kind::socket;
  }
  TRY_ASSIGN(const int fd, to.kind == Address::Kind::tcp      ? open_tcp(to, end)
                           : to.kind == Address::Kind::socket ? open_socket(to.path, end)
                                                              : open_device(to.path, end));
  return std::unique_ptr<Transport>(new Transport(fd, to.kind, to.text()));
}

Transport::~Transport() { ::close(fd_); }

Result<void> Transport::send(BytesView command) {
  const Clock::time_point end = Clock::now() + milliseconds(5000);  // it takes commands at once, or is stuck
  while (!command.empty()) {
    const ssize_t put = kind_ == Address::Kind::device ? ::write(fd_, command.data(), command.size())
                                                       : ::send(fd_, command.data(), command.size(), MSG_NOSIGNAL);
    if (put > 0) {
      command = command.subspan(static_cast<size_t>(put));
      continue;
    }
    if (put < 0 && errno == EINTR) continue;
    const int why = errno;
    if (put < 0 && (why == EAGAIN || why == EBUSY) && wait_for(fd_, POLLOUT, end) && Clock::now() < end) {
      std::this_thread::sleep_for(milliseconds(2));  // a device says "writable" also while it is busy
      continue;
    }
    errno = why;
    return gone(name_, "does not take the command: " + errno_text(errno));
  }
  return {};
}

Result<Bytes> Transport::receive(int64_t ms) {
  const Clock::time_point end = Clock::now() + milliseconds(ms);
  // A device hands out a response in one read, whatever its length; a socket in as many as it likes.
  Bytes out(kMaxMessageBytes);
  size_t have = 0;
  size_t want = kHeaderBytes;
  while (have < want) {
    if (!wait_for(fd_, POLLIN, end)) return gone(name_, "no answer within " + std::to_string(ms / 1000) + " s");
    const ssize_t got = ::read(fd_, out.data() + have, out.size() - have);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return gone(name_, "went away: " + errno_text(errno));
    if (got == 0) return gone(name_, "closed the connection without an answer");
    have += static_cast<size_t>(got);
    if (have < kHeaderBytes) continue;
    want = size_t{out[2]} << 24 | size_t{out[3]} << 16 | size_t{out[4]} << 8 | out[5];
    if (want < kHeaderBytes || want > kMaxMessageBytes || want < have) {
      return gone(name_, "its answer claims " + std::to_string(want) + " bytes; this is not a TPM 2.0");
    }
  }
  out.resize(have);
  return out;
}

}  // namespace limpet::tpm
