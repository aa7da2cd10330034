// SPDX-License-Identifier: Apache-2.0
// The load client of tools/bench:
//   load rate  --socket S --method fetch|fetch-jwt|validate-jwt|mint|mint-jwt|create|list|bundle|refresh [--clients N]
//              [--seconds S] [--warmup S] [--count CALLS] [--fresh] [--pid P] [--csr FILE] [--token JWT] [--domain TD]
//              [--batch N] [--first N] [--parent PATH | --parents N] [--prefix P]
//   load hold  --socket S [--clients N]          N connections with a stream each; "held", then until standard input
//   ends load watch --socket SERVER --agent AGENT --uid U --parent PATH [--count N]   new entry to watching workload
//   load first --socket S --method fetch|bundle -- COMMAND...   milliseconds from exec to the first answer
//   load usage --pid P                           resident and proportional kilobytes, processor milliseconds
// One thread and epoll. Clients are closed loops: each has one call in flight. Output is "name=value" words.
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <vector>

#include "h2_client.h"
#include "process.h"
#include "requests.h"

namespace limpet::bench {
namespace {

struct Arguments {
  std::map<std::string, std::string> values;
  std::vector<char*> command;  // after "--"
  [[nodiscard]] std::string text(const std::string& name, const std::string& fallback = "") const {
    const auto found = values.find(name);
    return found == values.end() ? fallback : found->second;
  }
  [[nodiscard]] double number(const std::string& name, double fallback) const {
    const auto found = values.find(name);
    return found == values.end() ? fallback : std::atof(found->second.c_str());
  }
  [[nodiscard]] int count(const std::string& name, int fallback) const {
    return static_cast<int>(number(name, fallback));
  }
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 2; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--") {
      out.command.assign(argv + i + 1, argv + argc);
      out.command.push_back(nullptr);
      break;
    }
    if (!name.starts_with("--")) die("unexpected " + name);
    const bool alone = name == "--fresh" || i + 1 == argc;
    out.values[name.substr(2)] = alone ? "1" : argv[++i];
  }
  return out;
}

Method method_of(const std::string& name) {
  if (name == "fetch") return {"/SpiffeWorkloadAPI/FetchX509SVID", true, true};
  if (name == "fetch-jwt") return {"/SpiffeWorkloadAPI/FetchJWTSVID", true};
  if (name == "validate-jwt") return {"/SpiffeWorkloadAPI/ValidateJWTSVID", true};
  if (name == "mint-jwt") return {"/spire.api.server.svid.v1.SVID/MintJWTSVID"};
  if (name == "refresh") return {"/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle"};
  if (name == "mint") return {"/spire.api.server.svid.v1.SVID/MintX509SVID"};
  if (name == "create") return {"/spire.api.server.entry.v1.Entry/BatchCreateEntry"};
  if (name == "list") return {"/spire.api.server.entry.v1.Entry/ListEntries"};
  if (name == "bundle") return {"/spire.api.server.bundle.v1.Bundle/GetBundle"};
  die("unknown method " + name);
}

class Poller {
 public:
  Poller() : fd_(epoll_create1(EPOLL_CLOEXEC)) {}
  ~Poller() { ::close(fd_); }
  void add(H2Client& client) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &client;
    if (epoll_ctl(fd_, EPOLL_CTL_ADD, client.fd(), &event) != 0) die("epoll_ctl failed");
  }
  void wait(int ms) {
    epoll_event events[64];
    const int ready = epoll_wait(fd_, events, 64, ms);
    for (int i = 0; i < ready; ++i) static_cast<H2Client*>(events[i].data.ptr)->on_readable();
  }

 private:
  int fd_;
};

// ---- rate ----
class Rate {
 public:
  explicit Rate(const Arguments& arguments) : arguments_(arguments), method_(method_of(arguments.text("method"))) {
    kind_.parent_path = arguments.text("parent", "/elsewhere");
    kind_.prefix = arguments.text("prefix", "bench");
    kind_.parents = arguments.count("parents", 1);
    number_ = arguments.count("first", 0);
    if (arguments.text("method") == "mint") {
      std::ifstream in(arguments.text("csr"), std::ios::binary);
      csr_ = {std::istreambuf_iterator<char>(in), {}};
      if (csr_.empty()) die("no CSR in " + arguments.text("csr"));
    }
  }

  void run() {
    const int clients = arguments_.count("clients", 1);
    for (int i = 0; i < clients; ++i) {
      clients_.push_back(std::make_unique<H2Client>(
          arguments_.text("socket"), method_,
          [this](auto& client, int status, auto& message) { on_answer(client, status, message); }));
    }
    for (auto& client : clients_) connect(*client);
    for (auto& client : clients_) client->call(request());
    const int64_t begin = now_ns();
    const auto pid = static_cast<pid_t>(arguments_.count("pid", 0));
    int64_t cpu = 0;
    if (wanted_ == 0) {
      drive(begin + seconds("warmup", 1));
      latencies_.clear();
    }
    const int64_t measured_from = now_ns();
    if (pid > 0) cpu = cpu_ns(pid);
    drive(measured_from + (wanted_ == 0 ? seconds("seconds", 6) : seconds("limit", 600)));
    const double took = static_cast<double>(now_ns() - measured_from) / 1e9;
    if (pid > 0) cpu = cpu_ns(pid) - cpu;
    report(took, pid > 0 ? cpu : -1);
  }

 private:
  [[nodiscard]] int64_t seconds(const char* name, double fallback) const {
    return static_cast<int64_t>(arguments_.number(name, fallback) * 1e9);
  }
  void connect(H2Client& client) {
    if (!client.connect()) die("cannot connect to " + arguments_.text("socket"));
    poller_.add(client);
  }
  std::string request() {
    if (method_.path.ends_with("MintX509SVID")) return mint_x509(csr_);
    if (method_.path.ends_with("MintJWTSVID")) return mint_jwt("example.org", "/minted", "aud");
    if (method_.path.ends_with("FetchJWTSVID")) return fetch_jwt("aud");
    if (method_.path.ends_with("ValidateJWTSVID")) return validate_jwt("aud", arguments_.text("token"));
    if (method_.path.ends_with("RefreshBundle")) return refresh_bundle(arguments_.text("domain"));
    if (method_.path.ends_with("ListEntries")) return list_entries(page_token_);
    if (!method_.path.ends_with("BatchCreateEntry")) return {};
    number_ += batch_;
    return batch_create(kind_, number_ - batch_, batch_);
  }
  void on_answer(H2Client& client, int status, const std::string& message) {
    latencies_.push_back(static_cast<int32_t>((now_ns() - client.started_ns()) / 1000));
    const bool listing = method_.path.ends_with("ListEntries");
    if (listing) page_token_ = next_page_token(message);
    const bool may_be_empty = listing || method_.path.ends_with("RefreshBundle");
    const bool empty = !may_be_empty && message.size() < 100;
    const bool short_batch = method_.path.ends_with("BatchCreateEntry") && created_entries(message) != batch_;
    if (status != 0 || empty || short_batch) {
      ++failures_;
      last_failure_ = status != 0 ? "status " + std::to_string(status)
                                  : "an answer of " + std::to_string(message.size()) + " bytes";
    }
    if (wanted_ > 0 && static_cast<int>(latencies_.size()) + static_cast<int>(clients_.size()) > wanted_) return;
    if (!fresh_) return client.call(request());
    client.disconnect();
    const int64_t begin = now_ns();
    connect(client);
    client.call(request());
    client.start_at(begin);  // the connection belongs to the call
  }
  void drive(int64_t until) {
    while (now_ns() < until && (wanted_ == 0 || static_cast<int>(latencies_.size()) < wanted_)) {
      poller_.wait(50);
      for (const auto& client : clients_) {
        if (client->lost()) die("the server closed a connection after " + std::to_string(latencies_.size()) + " calls");
      }
      if (failures_ > 100) break;
    }
  }
  void report(double took, int64_t cpu) {
    if (failures_ > 0)
      die(std::to_string(failures_) + " of " + std::to_string(latencies_.size()) + " calls failed: " + last_failure_);
    if (latencies_.empty()) die("no call was answered");
    std::sort(latencies_.begin(), latencies_.end());
    const auto at = [this](double part) {
      return latencies_[static_cast<size_t>(part * static_cast<double>(latencies_.size() - 1))];
    };
    const auto calls = static_cast<double>(latencies_.size());
    std::printf("calls=%.0f seconds=%.3f rate=%.1f p50_us=%d p99_us=%d", calls, took, calls / took, at(0.5), at(0.99));
    if (cpu >= 0) std::printf(" cpu_us=%.1f", static_cast<double>(cpu) / 1000 / calls);
    std::printf("\n");
  }

  const Arguments& arguments_;
  Method method_;
  EntryKind kind_;
  int batch_ = arguments_.count("batch", 1);
  int wanted_ = arguments_.count("count", 0);  // calls; 0: by time
  bool fresh_ = !arguments_.text("fresh").empty();
  int64_t number_ = 0;
  std::string csr_;
  std::string page_token_;  // where the next page begins
  Poller poller_;
  std::vector<std::unique_ptr<H2Client>> clients_;
  std::vector<int32_t> latencies_;  // microseconds
  int failures_ = 0;
  std::string last_failure_;
};

// ---- hold ----
int hold(const Arguments& arguments) {
  const Method method = method_of("fetch");
  const int count = arguments.count("clients", 1000);
  int answered = 0;
  Poller poller;
  std::vector<std::unique_ptr<H2Client>> clients;
  const int64_t begin = now_ns();
  for (int i = 0; i < count; ++i) {
    clients.push_back(std::make_unique<H2Client>(arguments.text("socket"), method,
                                                 [&answered](H2Client&, int status, const std::string&) {
                                                   if (status != 0)
                                                     die("a stream ended with status " + std::to_string(status));
                                                   ++answered;
                                                 }));
    clients.back()->keep_stream();
    if (!clients.back()->connect()) die("connection " + std::to_string(i) + " was refused");
    poller.add(*clients.back());
    clients.back()->call("");
    if (i % 16 == 15) poller.wait(0);
  }
  while (answered < count) {
    poller.wait(1000);
    for (const auto& client : clients) {
      if (client->lost()) die("a connection was closed; " + std::to_string(answered) + " streams had their answer");
    }
    if (now_ns() - begin > 60'000'000'000) die(std::to_string(answered) + " of the streams were answered in 60 s");
  }
  std::printf("held=%d ms=%.1f\n", answered, static_cast<double>(now_ns() - begin) / 1e6);
  std::fflush(stdout);
  char end = 0;
  while (::read(STDIN_FILENO, &end, 1) > 0) continue;
  return 0;
}

// ---- watch ----
int watch(const Arguments& arguments) {
  const Method fetch = method_of("fetch");
  const Method create = method_of("create");
  int pushes = 0;
  bool created = false;
  H2Client workload(arguments.text("agent"), fetch, [&pushes](H2Client&, int status, const std::string&) {
    if (status != 0) die("the workload's stream ended with status " + std::to_string(status));
    ++pushes;
  });
  H2Client admin(arguments.text("socket"), create, [&created](H2Client&, int status, const std::string& message) {
    if (status != 0 || created_entries(message) != 1)
      die("the entry was not created, status " + std::to_string(status));
    created = true;
  });
  workload.keep_stream();
  if (!workload.connect() || !admin.connect()) die("cannot connect");
  Poller poller;
  poller.add(workload);
  poller.add(admin);
  workload.call("");
  while (pushes == 0) poller.wait(100);
  EntryKind kind;
  kind.parent_path = arguments.text("parent");
  kind.prefix = "watched/" + std::to_string(getpid());
  kind.uid = arguments.count("uid", 0);
  std::vector<double> took;
  for (int i = 0; i < arguments.count("count", 3); ++i) {
    const int before = pushes;
    created = false;
    const int64_t begin = now_ns();
    admin.call(batch_create(kind, i, 1));
    while (!created || pushes == before) {
      poller.wait(100);
      if (now_ns() - begin > 60'000'000'000) die("the entry did not reach the workload in 60 s");
    }
    took.push_back(static_cast<double>(now_ns() - begin) / 1e6);
    usleep(static_cast<useconds_t>(300'000 + 700'000 * (i % 3)));  // another phase of the agent's interval each time
  }
  std::sort(took.begin(), took.end());
  std::printf("times=%zu p50_ms=%.1f max_ms=%.1f\n", took.size(), took[took.size() / 2], took.back());
  return 0;
}

// ---- first ----
int first(const Arguments& arguments) {
  if (arguments.command.size() < 2) die("first: no command");
  const Method method = method_of(arguments.text("method"));
  bool answered = false;
  bool over = false;
  H2Client client(arguments.text("socket"), method, [&](H2Client&, int status, const std::string&) {
    answered = status == 0;
    over = true;
  });
  const int64_t begin = now_ns();
  const pid_t pid = fork();
  if (pid == 0) {
    execv(arguments.command[0], arguments.command.data());
    _exit(127);
  }
  while (!answered) {
    if (now_ns() - begin > 30'000'000'000) die("no answer within 30 s");
    if (waitpid(pid, nullptr, WNOHANG) == pid) die("the command ended before its first answer");
    if (!client.connect()) {
      usleep(200);
      continue;
    }
    Poller poller;
    poller.add(client);
    over = false;
    client.call("");
    while (!over && !client.lost()) poller.wait(100);
    if (!answered) client.disconnect(), usleep(200);
  }
  const double ms = static_cast<double>(now_ns() - begin) / 1e6;
  std::printf("first_ms=%.1f rss_kb=%lld\n", ms, static_cast<long long>(memory_kb(pid, "Rss")));
  client.disconnect();
  kill(pid, SIGTERM);
  waitpid(pid, nullptr, 0);
  return 0;
}

int usage(const Arguments& arguments) {
  const auto pid = static_cast<pid_t>(arguments.count("pid", 0));
  std::printf("rss_kb=%lld pss_kb=%lld cpu_ms=%.1f\n", static_cast<long long>(memory_kb(pid, "Rss")),
              static_cast<long long>(memory_kb(pid, "Pss")), static_cast<double>(cpu_ns(pid)) / 1e6);
  return 0;
}

int run(int argc, char** argv) {
  if (argc < 2) die("usage: load rate|hold|watch|first|usage ... (see the source)");
  const std::string mode = argv[1];
  const Arguments arguments = parse(argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  if (mode == "rate") return Rate(arguments).run(), 0;
  if (mode == "hold") return hold(arguments);
  if (mode == "watch") return watch(arguments);
  if (mode == "first") return first(arguments);
  if (mode == "usage") return usage(arguments);
  die("unknown mode " + mode);
}

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) { return limpet::bench::run(argc, argv); }
