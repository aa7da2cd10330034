// SPDX-License-Identifier: Apache-2.0
#pragma once
// A software TPM for a test: its own state directory, a Unix socket that takes raw commands. It can be stopped and
// started again (a reset), cleared, and paused (a TPM that does not answer).

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace limpet::test {

class SwTpm {
 public:
  explicit SwTpm(std::string directory) : directory_(std::move(directory)) {
    std::filesystem::create_directories(state());
  }
  ~SwTpm() { stop(); }
  SwTpm(const SwTpm&) = delete;
  SwTpm& operator=(const SwTpm&) = delete;

  static bool there() { return std::filesystem::exists("/usr/bin/swtpm"); }
  [[nodiscard]] std::string socket() const { return directory_ + "/sock"; }

  [[nodiscard]] std::string state() const { return directory_ + "/state"; }

  // A started TPM; with `started` false one that waits for TPM2_Startup, as without firmware.
  bool start(bool started = true) {
    std::filesystem::remove(socket());
    std::vector<std::string> words = {"swtpm",
                                      "socket",
                                      "--tpm2",
                                      "--tpmstate",
                                      "dir=" + state(),
                                      "--server",
                                      "type=unixio,path=" + socket(),
                                      "--flags",
                                      started ? "not-need-init,startup-clear" : "not-need-init"};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    char* environment[] = {nullptr};
    const int rc = ::posix_spawn(&pid_, "/usr/bin/swtpm", &files, nullptr, argv.data(), environment);
    ::posix_spawn_file_actions_destroy(&files);
    if (rc != 0) pid_ = -1;
    for (int turn = 0; pid_ > 0 && turn < 10'000; ++turn) {
      if (answers()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
    std::filesystem::remove(socket());
  }
  bool reset() {
    stop();
    return start();
  }
  // Another TPM, or this one after TPM2_Clear and a new seed: everything made before is lost.
  bool replace() {
    stop();
    std::filesystem::rename(state(), directory_ + "/former");
    std::filesystem::create_directories(state());
    return start();
  }
  // The one that was replaced.
  bool bring_back() {
    stop();
    std::filesystem::remove_all(state());
    std::filesystem::rename(directory_ + "/former", state());
    return start();
  }
  void pause() const { ::kill(pid_, SIGSTOP); }
  void go_on() const { ::kill(pid_, SIGCONT); }

 private:
  [[nodiscard]] bool answers() const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket().c_str(), sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool good = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    return good;
  }

  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace limpet::test
