// SPDX-License-Identifier: Apache-2.0
#include "plugin/shim_child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/errno_text.h"
#include "base/limits.h"

extern char** environ;

namespace limpet::shim {
namespace {

constexpr size_t kReadBytes = 64u << 10;
constexpr int kReadsATurn = 4;  // then the rest of the loop has its turn
constexpr size_t kWhyBytes = 1024;
constexpr size_t kMostUnsent = 32u << 20;  // what is asked of it is bounded before; this bounds what it asked for
constexpr int64_t kLastWordsMs = 1'000;
constexpr int64_t kBuryEveryMs = 2;
constexpr int kBuryTries = 1000;
constexpr int64_t kGoodbyeEveryMs = 10;

// A process that was told to stop: nobody waits for it but the loop, and not for long. A loop that ends first, with the
// daemon, waits here: a plugin may have something to give back.
class Goodbye final : public LoopGuest {
 public:
  Goodbye(UvLoop& loop, pid_t pid, int fd) : loop_(loop), pid_(pid), fd_(fd), timer_(loop) {}
  ~Goodbye() override {
    // one that the kernel holds, by a driver that hangs, outlives even its signal: it is left to whoever reaps ours
    while (!ended() && Clock::now() < until_ + std::chrono::milliseconds(kLastWordsMs))
      ::usleep(kGoodbyeEveryMs * 1'000);
    if (fd_ >= 0) ::close(fd_);
  }
  void look() {
    if (ended()) return loop_.dismiss(*this);
    timer_.start<&Goodbye::look>(kGoodbyeEveryMs, this);
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool ended() {
    if (pid_ <= 0 || ::waitpid(pid_, nullptr, WNOHANG) != 0) {
      pid_ = -1;
      return true;
    }
    if (Clock::now() >= until_) ::kill(pid_, SIGKILL);
    return false;
  }
  UvLoop& loop_;
  pid_t pid_;
  int fd_;
  const Clock::time_point until_ = Clock::now() + std::chrono::milliseconds(limits::kPluginStopMs);
  Timer timer_;
};

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status))
    return "killed by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
  return "exit status " + std::to_string(WEXITSTATUS(status));
}

// Only what a plugin may need of the environment: nothing of ours is its business.
std::string kept_variable(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? std::string() : std::string(name) + "=" + value;
}

}  // namespace

Result<Started> start_process(const std::string& program, int plugin_fd) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return fail(Code::unavailable, "no socket for a plugin's process: " + errno_text(errno));
  // dup2 onto itself would keep close-on-exec: both go through numbers that the child does not use
  const int socket = ::fcntl(pair[1], F_DUPFD_CLOEXEC, kFirstFreeFd);
  const int plugin = ::fcntl(plugin_fd, F_DUPFD_CLOEXEC, kFirstFreeFd);
  if (socket < 0 || plugin < 0) {
    const std::string why = errno_text(errno);
    for (const int fd : {pair[0], pair[1], socket, plugin}) {
      if (fd >= 0) ::close(fd);
    }
    return fail(Code::unavailable, "no descriptors for a plugin's process: " + why);
  }
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&files, socket, kSocketFd);
  posix_spawn_file_actions_adddup2(&files, plugin, kPluginFd);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string name = program, zone = kept_variable("TZ"), bus = kept_variable("DBUS_SYSTEM_BUS_ADDRESS"),
              sanitizer = kept_variable("ASAN_OPTIONS"), token = kept_variable("SOFTHSM2_CONF");
  char* arguments[] = {name.data(), nullptr};
  char* environment[5] = {};
  size_t kept = 0;
  for (std::string* text : {&zone, &bus, &sanitizer, &token}) {
    if (!text->empty()) environment[kept++] = text->data();
  }
  Started out;
  const int error = ::posix_spawn(&out.pid, program.c_str(), &files, &attributes, arguments, environment);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  for (const int fd : {pair[1], socket, plugin}) {
    if (fd >= 0) ::close(fd);
  }
  if (error != 0) {
    ::close(pair[0]);
    return fail(Code::unavailable, "the plugin host " + program + " cannot be started: " + errno_text(error));
  }
  out.fd = pair[0];
  (void)::fcntl(out.fd, F_SETFL, O_NONBLOCK);
  return out;
}

ShimChild::ShimChild(UvLoop& loop, Started started, Listener& listener)
    : loop_(loop), listener_(listener), pid_(started.pid), fd_(started.fd), bury_timer_(loop) {}

Result<std::unique_ptr<ShimChild>> ShimChild::start(UvLoop& loop, const std::string& program, int plugin_fd,
                                                    Listener& listener) {
  TRY_ASSIGN(const Started started, start_process(program, plugin_fd));
  std::unique_ptr<ShimChild> made(new ShimChild(loop, started, listener));
  TRY_ASSIGN(made->watch_, FdWatch::open(loop, made->fd_, [self = made.get()](bool readable, bool writable) {
               self->on_ready(readable, writable);
             }));
  made->watch_->want(true, false);
  return made;
}

ShimChild::~ShimChild() {
  drop_waiting();
  watch_.reset();
  if (pid_ <= 0) {
    if (fd_ >= 0) ::close(fd_);
    return;
  }
  auto goodbye = std::make_unique<Goodbye>(loop_, pid_, fd_);
  Goodbye& kept = *goodbye;
  loop_.keep(std::move(goodbye));
  kept.look();
}

void ShimChild::on_ready(bool readable, bool writable) {
  if (writable) flush();
  if (readable && fd_ >= 0) read();
}

void ShimChild::read() {
  uint8_t buffer[kReadBytes];
  for (int i = 0; i < kReadsATurn && fd_ >= 0; ++i) {
    // no room for descriptors: those that a child sends are closed by the kernel
    const ssize_t got = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return hang_up();
    splitter_.add({buffer, static_cast<size_t>(got)});
    while (fd_ >= 0) {
      const auto frame = splitter_.next();
      if (!frame) break;
      listener_.on_frame(*frame);
    }
    if (splitter_.broken()) return kill("it sent a frame of an impossible length");
    if (static_cast<size_t>(got) < sizeof buffer) return;
  }
}

bool ShimChild::write_some(Waiting& w) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  while (w.at < w.frame.size()) {
    iovec part = {w.frame.data() + w.at, w.frame.size() - w.at};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (w.fd >= 0 && w.at == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(head), &w.fd, sizeof(int));
    }
    const ssize_t sent = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return false;
    if (sent < 0) {
      stop_writing();
      return false;
    }
    w.at += static_cast<size_t>(sent);
  }
  return true;
}

void ShimChild::send(Bytes frame, int pass_fd) {
  if (fd_ < 0 || deaf_) return;
  Waiting w{std::move(frame), 0, pass_fd};
  if ((waiting_.empty() && write_some(w)) || deaf_) return;
  if (unsent_ + w.frame.size() > kMostUnsent) return kill("it does not read what it is sent");
  if (w.fd >= 0) {
    w.fd = w.at == 0 ? ::fcntl(w.fd, F_DUPFD_CLOEXEC, 0) : -1;  // it goes with the first byte
    if (w.at == 0 && w.fd < 0) return kill("no descriptor is free to keep one for it until it reads");
  }
  unsent_ += w.frame.size();
  waiting_.push_back(std::move(w));
  watch_->want(true, true);
}

void ShimChild::flush() {
  while (!waiting_.empty()) {
    if (!write_some(waiting_.front())) {
      if (deaf_) drop_waiting();
      return;
    }
    if (waiting_.front().fd >= 0) ::close(waiting_.front().fd);
    unsent_ -= waiting_.front().frame.size();
    waiting_.pop_front();
  }
  if (watch_ != nullptr) watch_->want(true, false);
}

// Its end of the socket takes nothing more: it ended, or shut that side down. Its last words may still be unread, so
// only the process is ended here; the end of what it wrote is the end of the child.
void ShimChild::stop_writing() {
  deaf_ = true;
  ::kill(pid_, SIGKILL);
  if (watch_ != nullptr) watch_->want(true, false);
  bury_timer_.start<&ShimChild::hang_up>(kLastWordsMs, this);  // a process of its own making may hold the socket
}

void ShimChild::drop_waiting() {
  for (Waiting& frame : waiting_) {
    if (frame.fd >= 0) ::close(frame.fd);
  }
  waiting_.clear();
  unsent_ = 0;
}

void ShimChild::kill(std::string why) {
  if (fd_ < 0) return;
  if (why.size() > kWhyBytes) why.resize(kWhyBytes);
  why_ = is_utf8(why) ? std::move(why) : "(a reason that is not UTF-8)";  // it may be the child's own words
  ::kill(pid_, SIGKILL);
  hang_up();
}

// Its end of the socket is closed, or ours: then it is as good as dead, and made so.
void ShimChild::hang_up() {
  watch_.reset();
  ::close(std::exchange(fd_, -1));
  bury_timer_.start<&ShimChild::bury>(0, this);
}

void ShimChild::bury() {
  int status = 0;
  const pid_t gone = ::waitpid(pid_, &status, WNOHANG);
  if (gone == 0 && ++tries_ < kBuryTries) {
    if (tries_ == kBuryTries / 10) ::kill(pid_, SIGKILL);  // it closed the socket and lives on
    return bury_timer_.start<&ShimChild::bury>(kBuryEveryMs, this);
  }
  if (gone != 0) pid_ = -1;
  if (deaf_ && why_.empty() && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) why_ = "it stopped reading";
  std::string why = why_.empty() ? (gone > 0 ? how_it_ended(status) : "it hung up") : std::move(why_);
  listener_.on_end(std::move(why));
}

}  // namespace limpet::shim
