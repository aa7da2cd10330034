// SPDX-License-Identifier: Apache-2.0
#pragma once
// For the tests of this plugin: a message bus of their own, and a service manager on it that answers as the test says.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace limpet::workload_attestor_systemd::test {

// A dbus-daemon on a socket in `directory`.
class TestBus {
 public:
  explicit TestBus(const std::string& directory) : socket_(directory + "/bus") {
    config_ = directory + "/bus.conf";
    std::ofstream(config_) << "<busconfig><listen>unix:path=" << socket_
                           << "</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>"
                              "<allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>"
                              "</policy></busconfig>";
    start();
  }
  ~TestBus() { stop(); }
  TestBus(const TestBus&) = delete;
  TestBus& operator=(const TestBus&) = delete;

  void start() {
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // it shall not outlive a test that crashed
      ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
      ::dup2(ready[1], 3);  // the address is printed once the socket is there
      const std::string config = "--config-file=" + config_;
      ::execlp("dbus-daemon", "dbus-daemon", config.c_str(), "--nofork", "--nopidfile", "--print-address=3", nullptr);
      ::_exit(127);
    }
    ::close(ready[1]);
    char c = 0;
    EXPECT_EQ(::read(ready[0], &c, 1), 1) << "dbus-daemon did not start: run tools/setup test";
    ::close(ready[0]);
  }
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::unlink(socket_.c_str());
    pid_ = -1;
  }
  [[nodiscard]] std::string address() const { return "unix:path=" + socket_; }

 private:
  std::string socket_;
  std::string config_;
  pid_t pid_ = -1;
};

// What one method call is answered with: true when it was.
using Handler = std::function<bool(sd_bus_message* call, const std::string& member)>;

// Owns the manager's name on the bus while it lives; a thread answers. Without a `handler`'s answer: a sound manager of
// one unit, web.service, to which every process belongs.
class FakeManager {
 public:
  explicit FakeManager(const std::string& address, Handler handler = {}) : handler_(std::move(handler)) {
    EXPECT_GE(sd_bus_new(&bus_), 0);
    EXPECT_GE(sd_bus_set_address(bus_, address.c_str()), 0);
    EXPECT_GE(sd_bus_set_bus_client(bus_, 1), 0);
    EXPECT_GE(sd_bus_negotiate_fds(bus_, 1), 0);
    EXPECT_GE(sd_bus_start(bus_), 0);
    EXPECT_GE(sd_bus_add_filter(bus_, nullptr, &on_message, this), 0);
    EXPECT_GE(sd_bus_request_name(bus_, "org.freedesktop.systemd1", 0), 0);
    thread_ = std::thread([this] { run(); });
  }
  ~FakeManager() {
    stopping_ = true;
    thread_.join();
    sd_bus_close_unref(bus_);
  }
  FakeManager(const FakeManager&) = delete;
  FakeManager& operator=(const FakeManager&) = delete;

  std::vector<std::string> calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  void run() {
    while (!stopping_) {
      const int worked = sd_bus_process(bus_, nullptr);
      if (worked < 0) return;
      if (worked == 0) sd_bus_wait(bus_, 20'000);
    }
  }
  static int on_message(sd_bus_message* m, void* place, sd_bus_error*) {
    auto* self = static_cast<FakeManager*>(place);
    if (sd_bus_message_is_method_call(m, nullptr, nullptr) <= 0) return 0;
    std::string member = sd_bus_message_get_member(m);
    if (member == "Get") {
      const char* interface = nullptr;
      const char* property = nullptr;
      if (sd_bus_message_read(m, "ss", &interface, &property) > 0) member = property;
    }
    {
      const std::lock_guard lock(self->mutex_);
      self->calls_.push_back(member);
    }
    if (self->handler_ && self->handler_(m, member)) return 1;
    return self->answer(m, member);
  }
  int answer(sd_bus_message* m, const std::string& member) {
    static constexpr uint8_t kInvocation[16] = {0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    static constexpr const char* kPath = "/org/freedesktop/systemd1/unit/web_2eservice";
    if (member == "GetUnitByPID") return sd_bus_reply_method_return(m, "o", kPath);
    if (member == "GetUnitByPIDFD")
      return sd_bus_reply_method_return(m, "osay", kPath, "web.service", 2, kInvocation[0], kInvocation[1]);
    if (member == "Id") return sd_bus_reply_method_return(m, "v", "s", "web.service");
    if (member == "FragmentPath") return sd_bus_reply_method_return(m, "v", "s", "/usr/lib/systemd/system/web.service");
    if (member == "Slice") return sd_bus_reply_method_return(m, "v", "s", "system.slice");
    if (member == "InvocationID") return reply_bytes(m, kInvocation, sizeof kInvocation);
    return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_UNKNOWN_METHOD, "no %s here", member.c_str());
  }

 public:
  static int reply_bytes(sd_bus_message* m, const void* bytes, size_t size) {
    sd_bus_message* reply = nullptr;
    sd_bus_message_new_method_return(m, &reply);
    sd_bus_message_open_container(reply, 'v', "ay");
    sd_bus_message_append_array(reply, 'y', bytes, size);
    sd_bus_message_close_container(reply);
    const int r = sd_bus_send(nullptr, reply, nullptr);
    sd_bus_message_unref(reply);
    return r;
  }

 private:
  Handler handler_;
  sd_bus* bus_ = nullptr;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<std::string> calls_;
  std::thread thread_;
};

}  // namespace limpet::workload_attestor_systemd::test
