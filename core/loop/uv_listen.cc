// SPDX-License-Identifier: Apache-2.0
// Listening sockets. They are polled and accepted from by hand, because libuv's own accept spins when descriptors run
// out, and its own pipe removes a socket file by name, whoever owns it by then.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "loop/uv_internal.h"
#include "loop/uv_stream.h"

namespace limpet {
namespace {

constexpr int kBacklog = 4096;           // the kernel lowers it to net.core.somaxconn
constexpr int kAcceptsPerTurn = 64;      // so that a storm of connections does not starve those that stand
constexpr int64_t kAcceptPauseMs = 100;  // out of descriptors or memory: accepting again at once would only spin

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Error listen_error(const std::string& where, const std::string& why) {
  return {Code::unavailable, "listen on " + where + ": " + why};
}

// The file a Unix listener made, as long as nobody replaced it.
struct SocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;

  void remove() const {
    struct stat now{};
    if (path.empty() || lstat(path.c_str(), &now) != 0) return;
    if (now.st_dev == device && now.st_ino == inode) unlink(path.c_str());
  }
};

class UvListener final : public Listener {
 public:
  UvListener(UvLoop& loop, int fd, ListenerClient& client) : loop_(loop), client_(client), fd_(fd), resume_(loop) {}
  ~UvListener() override {
    file.remove();  // before the descriptor closes: afterwards the file may be another process's with our inode
    poll_.reset();
    close(fd_);
  }
  Result<void> start(const std::string& where);
  [[nodiscard]] uint16_t port() const override;

  SocketFile file;

 private:
  static void on_readable(uv_poll_t* handle, int, int);
  bool accept_one();
  std::unique_ptr<Stream> adopt(int fd, bool unix_socket);
  void resume() { (void)uv_poll_start(poll_.get(), UV_READABLE, on_readable); }

  UvLoop& loop_;
  ListenerClient& client_;
  int fd_;
  UvHandle<uv_poll_t> poll_;
  Timer resume_;
};

Result<void> UvListener::start(const std::string& where) {
  if (listen(fd_, kBacklog) != 0) return fail(listen_error(where, errno_text(errno)));
  int status = 0;
  poll_ = make_uv_handle<uv_poll_t>([this](uv_poll_t* h) { return uv_poll_init(loop_.raw(), h, fd_); }, &status);
  if (poll_) {
    poll_->data = this;
    status = uv_poll_start(poll_.get(), UV_READABLE, on_readable);
  }
  if (status != 0) return fail(listen_error(where, errno_text(status)));
  return {};
}

uint16_t UvListener::port() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return address_of(reinterpret_cast<const sockaddr*>(&address)).port;
}

void UvListener::on_readable(uv_poll_t* handle, int, int) {
  // the client may destroy the listener in on_connection: the handle outlives it and has lost its data then
  for (int i = 0; i < kAcceptsPerTurn && handle->data != nullptr; i++) {
    if (!static_cast<UvListener*>(handle->data)->accept_one()) return;
  }
}

// False: no more for now.
bool UvListener::accept_one() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int fd = accept4(fd_, reinterpret_cast<sockaddr*>(&address), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) {
    if (auto stream = adopt(fd, address.ss_family == AF_UNIX); stream != nullptr) {
      client_.on_connection(std::move(stream));
    }
    return true;
  }
  switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      uv_poll_stop(poll_.get());
      resume_.start<&UvListener::resume>(kAcceptPauseMs, this);
      return false;
    case EAGAIN:
      return false;
    default:
      return true;  // that one connection failed on its way in
  }
}

std::unique_ptr<Stream> UvListener::adopt(int fd, bool unix_socket) {
  Descriptor owned(fd);
  auto socket = make_uv_handle<UvSocket>([&](UvSocket* s) {
    return unix_socket ? uv_pipe_init(loop_.raw(), &s->pipe, 0) : uv_tcp_init(loop_.raw(), &s->tcp);
  });
  if (!socket) return nullptr;
  const int status = unix_socket ? uv_pipe_open(&socket->pipe, fd) : uv_tcp_open(&socket->tcp, fd);
  if (status != 0) return nullptr;
  (void)owned.release();  // the handle's now
  return make_uv_stream(loop_, std::move(socket), unix_socket);
}

// Creates what is missing of the path's directories, readable for all: a workload of any user must get through.
Result<void> make_parents(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (mkdir(parent.c_str(), 0755) == 0) {
      (void)chmod(parent.c_str(), 0755);  // whatever the umask took away
    } else if (errno != EEXIST) {
      return fail(Code::unavailable, "mkdir " + parent + ": " + errno_text(errno));
    }
  }
  return {};
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());  // its size was checked
  return address;
}

// Removes a socket file on which nobody answers; leaves everything else alone.
Result<void> remove_dead_socket(const std::string& path, const std::string& where) {
  struct stat found{};
  if (lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return fail(listen_error(where, errno_text(errno)));
  }
  if (!S_ISSOCK(found.st_mode)) {
    return fail(Code::failed_precondition,
                "listen on " + where + ": the file there is not a socket; move it away or choose another path");
  }
  const Descriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return fail(listen_error(where, errno_text(errno)));
  const sockaddr_un address = unix_address(path);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN) {
    return fail(Code::unavailable, "another process is listening on " + path);
  }
  if (errno != ECONNREFUSED) {
    return fail(listen_error(where, "probe the socket that is there: " + errno_text(errno)));
  }
  if (unlink(path.c_str()) != 0) return fail(listen_error(where, "remove the dead socket: " + errno_text(errno)));
  return {};
}

Result<addrinfo*> resolve_here(const std::string& host, uint16_t port, const std::string& where) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status = getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0 || found == nullptr) return fail(listen_error(where, gai_strerror(status)));
  return found;
}

}  // namespace

Result<std::unique_ptr<Listener>> listen_tcp(UvLoop& loop, const std::string& host, uint16_t port,
                                             ListenerClient& client) {
  const std::string where = StreamAddress{.unix_socket = false, .ip = host, .port = port}.text();
  TRY_ASSIGN(addrinfo * list, resolve_here(host, port, where));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(list, freeaddrinfo);
  Descriptor fd(socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return fail(listen_error(where, errno_text(errno)));
  const int on = 1;
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // a restart need not wait for TIME_WAIT
  if (bind(fd.get(), list->ai_addr, list->ai_addrlen) != 0) return fail(listen_error(where, errno_text(errno)));
  auto listener = std::make_unique<UvListener>(loop, fd.release(), client);
  TRY(listener->start(where));
  return listener;
}

Result<std::unique_ptr<Listener>> listen_unix(UvLoop& loop, const std::string& path, uint32_t mode,
                                              ListenerClient& client) {
  const std::string where = "unix " + path;
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.empty() || path.size() > kLongest || path.find('\0') != std::string::npos) {
    return fail(Code::failed_precondition, "listen on " + where + ": the path has " + std::to_string(path.size()) +
                                               " bytes, a socket's path 1 to " + std::to_string(kLongest) +
                                               " without NUL; choose another");
  }
  TRY_WITHIN("listen on " + where, make_parents(path));
  TRY(remove_dead_socket(path, where));
  Descriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return fail(listen_error(where, errno_text(errno)));
  const sockaddr_un address = unix_address(path);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(listen_error(where, errno_text(errno)));
  }
  auto listener = std::make_unique<UvListener>(loop, fd.release(), client);
  struct stat made{};
  // nobody can connect between bind and chmod: it does not listen yet
  if (lstat(path.c_str(), &made) != 0 || chmod(path.c_str(), mode) != 0) {
    return fail(listen_error(where, errno_text(errno)));
  }
  listener->file = {path, made.st_dev, made.st_ino};
  TRY(listener->start(where));
  return listener;
}

}  // namespace limpet
