// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>

#include "base/clock.h"
#include "carriers.h"
#include "fake_manager.h"
#include "plugin/borrow.h"
#include "plugin/workload_attestor.h"

namespace limpet {
namespace {

using namespace test;
using workload_attestor_systemd::test::FakeManager;
using workload_attestor_systemd::test::Handler;
using workload_attestor_systemd::test::TestBus;
using Selectors = std::vector<std::string>;

const Selectors kWeb = {"id:web.service", "fragment_path:/usr/lib/systemd/system/web.service", "slice:system.slice",
                        "invocation_id:ab0102030405060708090a0b0c0d0e0f"};

class SystemdWorkload : public ShippedPlugin {
 protected:
  SystemdWorkload() {
    auto opened = Logger::open({LogLevel::debug, false, directory + "/log"}, clock);
    logger = std::move(*opened);
    const limpet_plugin* plugin = open_shipped(GetParam(), "workload_attestor_systemd");
    const limpet_component* component = find_component(*plugin, LIMPET_WORKLOAD_ATTESTOR, "systemd");
    instance = *Instance::create({loop, *logger, "example.org", services}, *component, kWorkloadAttestorPrefix);
    attestor = make_workload_attestor(instance);
    self = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  }
  ~SystemdWorkload() override {
    instance->close();
    ::close(self);
  }
  void use(const std::string& address, int timeout_ms = 20'000) {
    ASSERT_EQ(outcome(configure(*instance, R"({"bus_address":")" + address + R"(","timeout_ms":)" +
                                               std::to_string(timeout_ms) + "}")),
              "ok");
  }
  Result<Selectors> attest(pid_t pid, int pidfd) {
    return wait<Selectors>([&](Done<Selectors> done) { attestor->attest({pid, pidfd, 0, 0}, std::move(done)); });
  }
  Result<Selectors> attest() { return attest(::getpid(), self); }
  [[nodiscard]] std::string address() const { return "unix:path=" + directory + "/bus"; }
  size_t logged(const std::string& text) {
    const std::string log = read(directory + "/log");
    size_t count = 0;
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++count;
    return count;
  }

  SystemClock clock;
  std::unique_ptr<Logger> logger;
  std::shared_ptr<Instance> instance;
  std::unique_ptr<WorkloadAttestor> attestor;
  int self = -1;  // pidfd of this very process
};
INSTANTIATE_TEST_SUITE_P(Loaded, SystemdWorkload, ::testing::Values(Carrier::shared_object), carrier_name);

TEST_P(SystemdWorkload, RefusesAConfigurationItDoesNotUnderstand) {
  EXPECT_EQ(outcome(configure(*instance, R"({"bus":"x"})")),
            "InvalidArgument: workloadattestor(systemd): unknown key \"bus\"; known: bus_address, timeout_ms");
  for (const char* address : {"unixexec:path=/bin/sh", "tcp:host=localhost", "unix:path=/a;unixexec:path=/bin/sh",
                              "unix:path=relative", "unix:path=/a,guid=1"}) {
    EXPECT_EQ(outcome(configure(*instance, R"({"bus_address":")" + std::string(address) + "\"}")),
              "InvalidArgument: workloadattestor(systemd): bus_address: \"" + std::string(address) +
                  "\" is not the address of a socket; write unix:path=/run/...");
  }
  EXPECT_EQ(outcome(configure(*instance, R"({"timeout_ms":5})")),
            "InvalidArgument: workloadattestor(systemd): timeout_ms must be between 100 and 60000");
  EXPECT_EQ(outcome(configure(*instance, R"({"bus_address":")" + std::string(300, 'x') + "\"}")).substr(0, 16),
            "InvalidArgument:");
}

TEST_P(SystemdWorkload, TellsTheUnitOfAProcessByItsPidfd) {
  const TestBus bus(directory);
  FakeManager manager(bus.address());
  use(bus.address());
  const auto got = attest();
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_EQ(*got, kWeb);
  EXPECT_EQ(manager.calls(), (Selectors{"GetUnitByPIDFD", "Id", "FragmentPath", "Slice", "InvocationID"}));
}

TEST_P(SystemdWorkload, AManagerThatHandsOutNoPidfdsIsAskedByNumberAndAskedOnlyOnceWhetherItDoes) {
  const TestBus bus(directory);
  FakeManager manager(bus.address(), [](sd_bus_message* m, const std::string& member) {
    if (member != "GetUnitByPIDFD") return false;
    return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_UNKNOWN_METHOD, "Unknown method") >= 0;
  });
  use(bus.address());
  for (int time = 0; time < 2; ++time) EXPECT_EQ(*attest(), kWeb);
  const auto calls = manager.calls();
  EXPECT_EQ(std::ranges::count(calls, "GetUnitByPIDFD"), 1);
  EXPECT_EQ(std::ranges::count(calls, "GetUnitByPID"), 2);
}

TEST_P(SystemdWorkload, WithoutAPidfdTheNumberIsAsked) {
  const TestBus bus(directory);
  FakeManager manager(bus.address());
  use(bus.address());
  EXPECT_EQ(*attest(::getpid(), -1), kWeb);
  EXPECT_EQ(manager.calls().front(), "GetUnitByPID");
}

TEST_P(SystemdWorkload, AProcessThatEndsMeanwhileIsNotItsSuccessor) {
  const TestBus bus(directory);
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  FakeManager manager(bus.address(), [child](sd_bus_message*, const std::string& member) {
    if (member == "InvocationID") {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    return false;
  });
  use(bus.address());
  const std::string gone = "NotFound: workloadattestor(systemd): process " + std::to_string(child) + " has exited";
  EXPECT_EQ(outcome(attest(child, pidfd)), gone);
  EXPECT_EQ(outcome(attest(child, pidfd)), gone);
  EXPECT_EQ(outcome(attest(child, -1)), gone);
  EXPECT_EQ(outcome(attest(0, -1)).substr(0, 16), "InvalidArgument:");
  ::close(pidfd);
}

TEST_P(SystemdWorkload, LeavesOutWhatAUnitDoesNotHave) {
  const TestBus bus(directory);
  FakeManager manager(bus.address(), [](sd_bus_message* m, const std::string& member) {
    if (member == "Id") return sd_bus_reply_method_return(m, "v", "s", "init.scope") >= 0;
    if (member == "FragmentPath") return sd_bus_reply_method_return(m, "v", "s", "") >= 0;
    if (member == "Slice") return sd_bus_reply_method_return(m, "v", "s", "") >= 0;
    if (member == "InvocationID") return FakeManager::reply_bytes(m, "", 0) >= 0;
    return false;
  });
  use(bus.address());
  EXPECT_EQ(*attest(), Selectors{"id:init.scope"});
}

TEST_P(SystemdWorkload, AProcessOfNoUnitHasNoSelectors) {
  const TestBus bus(directory);
  FakeManager manager(bus.address(), [](sd_bus_message* m, const std::string&) {
    return sd_bus_reply_method_errorf(m, "org.freedesktop.systemd1.NoUnitForPID", "PID does not belong") >= 0;
  });
  use(bus.address());
  EXPECT_EQ(*attest(), Selectors{});
}

TEST_P(SystemdWorkload, ErrorsOfTheManagerAreNamed) {
  const std::string process = "process " + std::to_string(::getpid()) + ": systemd says ";
  const struct {
    const char* name;
    std::string expected;
  } kCases[] = {
      {SD_BUS_ERROR_ACCESS_DENIED, "PermissionDenied: workloadattestor(systemd): " + process +
                                       SD_BUS_ERROR_ACCESS_DENIED + ": no; see the bus's policy for the agent's user"},
      {"org.freedesktop.systemd1.NoSuchUnit",
       "NotFound: workloadattestor(systemd): " + process + "org.freedesktop.systemd1.NoSuchUnit: no"},
      {"org.example.Odd", "Internal: workloadattestor(systemd): " + process + "org.example.Odd: no"}};
  const TestBus bus(directory);
  use(bus.address());
  for (const auto& [name, expected] : kCases) {
    FakeManager manager(bus.address(), [error = name](sd_bus_message* m, const std::string&) {
      return sd_bus_reply_method_errorf(m, error, "no") >= 0;
    });
    EXPECT_EQ(outcome(attest()), expected);
  }
}

TEST_P(SystemdWorkload, HostileAnswersAreRefused) {
  const std::string huge(1u << 20, 'x');
  const std::string long_path = "/" + std::string(8000, 'p');
  const std::string long_error = std::string(100'000, 'e');
  using Reply = std::function<int(sd_bus_message*)>;
  const auto text = [](std::string value) -> Reply {
    return [value](sd_bus_message* m) { return sd_bus_reply_method_return(m, "v", "s", value.c_str()); };
  };
  const struct {
    const char* member;
    Reply reply;
    const char* expected;
  } kCases[] = {
      {"GetUnitByPIDFD", [](sd_bus_message* m) { return sd_bus_reply_method_return(m, "s", "web.service"); },
       "the manager's answer to GetUnitByPIDFD has no object path"},
      {"GetUnitByPIDFD", [](sd_bus_message* m) { return sd_bus_reply_method_return(m, nullptr); },
       "the manager's answer to GetUnitByPIDFD has no object path"},
      {"GetUnitByPIDFD", [&](sd_bus_message* m) { return sd_bus_reply_method_return(m, "o", long_path.c_str()); },
       "the manager's answer to GetUnitByPIDFD is too long"},
      {"Id", text(huge), "the manager's answer to Id is too long"},
      {"Id", text(""), "the manager's answer to Id is empty"},
      {"Id", text("web\nid:root.service"), "the manager's answer to Id has control characters"},
      {"Id", [](sd_bus_message* m) { return sd_bus_reply_method_return(m, "v", "u", 7); },
       "the manager's answer to Id is no text"},
      {"Id", [](sd_bus_message* m) { return sd_bus_reply_method_return(m, "s", "web.service"); },
       "the manager's answer to Id is no text"},
      {"FragmentPath", text("/" + huge), "the manager's answer to FragmentPath is too long"},
      {"Slice", text(huge), "the manager's answer to Slice is too long"},
      {"InvocationID", [](sd_bus_message* m) { return FakeManager::reply_bytes(m, "abc", 3); },
       "the manager's answer to InvocationID has not 16 bytes"},
      {"InvocationID", text("0123456789abcdef"), "the manager's answer to InvocationID is no list of bytes"},
      {"Slice",
       [&](sd_bus_message* m) { return sd_bus_reply_method_errorf(m, "org.example.Odd", "%s", long_error.c_str()); },
       "systemd says org.example.Odd: eeee"},
  };
  const TestBus bus(directory);
  use(bus.address());
  for (const auto& [member, reply, expected] : kCases) {
    FakeManager manager(bus.address(),
                        [at = std::string(member), how = reply](sd_bus_message* m, const std::string& asked) {
                          return asked == at && how(m) >= 0;
                        });
    const std::string got = outcome(attest());
    EXPECT_NE(got.find(expected), std::string::npos) << member << ": " << got;
    EXPECT_LT(got.size(), 600u);
  }
}

TEST_P(SystemdWorkload, WithoutABusThereAreNoSelectorsAndOneLine) {
  use(address());
  for (int time = 0; time < 3; ++time) EXPECT_EQ(*attest(), Selectors{});
  EXPECT_EQ(logged("no systemd on the bus"), 1u);
  // and when it comes, it is used
  const TestBus bus(directory);
  for (int time = 0; time < 3; ++time) EXPECT_EQ(*attest(), Selectors{});  // a bus without a manager
  FakeManager manager(bus.address());
  EXPECT_EQ(*attest(), kWeb);
  EXPECT_EQ(logged("no systemd on the bus"), 1u);
  EXPECT_EQ(logged("systemd answers now"), 1u);
}

TEST_P(SystemdWorkload, AManagerThatWasThereAndIsNotIsAnErrorUntilItIsBack) {
  TestBus bus(directory);
  use(bus.address());
  {
    FakeManager manager(bus.address());
    EXPECT_EQ(*attest(), kWeb);
  }
  EXPECT_EQ(outcome(attest()).substr(0, 76),
            "Unavailable: workloadattestor(systemd): systemd is not on the bus any more: ");
  bus.stop();
  EXPECT_EQ(outcome(attest()).substr(0, 12), "Unavailable:");
  bus.start();
  FakeManager again(bus.address());
  EXPECT_EQ(*attest(), kWeb);
  // the bus is restarted between two questions: nobody notices
  bus.stop();
  bus.start();
  FakeManager third(bus.address());
  EXPECT_EQ(*attest(), kWeb);
}

TEST_P(SystemdWorkload, AManagerThatDiesWithAQuestionIsAnError) {
  TestBus bus(directory);
  use(bus.address());
  FakeManager manager(bus.address(), [&](sd_bus_message*, const std::string& member) {
    if (member == "Slice") bus.stop();
    return member == "Slice";
  });
  EXPECT_EQ(outcome(attest()).substr(0, 12), "Unavailable:");
}

TEST_P(SystemdWorkload, AManagerThatHangsIsLeftAloneForAWhile) {
  const TestBus bus(directory);
  FakeManager manager(bus.address(), [](sd_bus_message*, const std::string& member) { return member == "Slice"; });
  use(bus.address(), 5'000);
  EXPECT_EQ(outcome(attest()), "DeadlineExceeded: workloadattestor(systemd): systemd at " + bus.address() +
                                   " did not answer in time; see whether it hangs");
  const size_t asked = manager.calls().size();
  EXPECT_EQ(outcome(attest()), "Unavailable: workloadattestor(systemd): the bus at " + bus.address() +
                                   " did not answer lately; it is asked again within 10000 ms");
  EXPECT_EQ(manager.calls().size(), asked);
}

void on_selectors(limpet_op* op, const limpet_status* err, limpet_str_list selectors) {
  answer_op<Selectors>(op, err, [&] { return take(op->owner->label(), selectors); });
}

// As one that waited behind others until almost nothing of its time was left.
TEST_P(SystemdWorkload, ACallWithLittleTimeLeftSaysNothingOfTheManager) {
  const TestBus bus(directory);
  std::atomic<bool> slow = true;
  std::vector<std::string> callers;
  sd_bus_message* unanswered = nullptr;
  {
    FakeManager manager(bus.address(), [&](sd_bus_message* m, const std::string& member) {
      callers.emplace_back(sd_bus_message_get_sender(m));
      if (slow && member == "Slice") unanswered = sd_bus_message_ref(m);
      if (slow || unanswered == nullptr) return unanswered != nullptr;
      sd_bus_reply_method_return(unanswered, "v", "s", "late.slice");  // to a question that nobody waits for
      unanswered = sd_bus_message_unref(unanswered);
      return false;
    });
    use(bus.address(), 9'000);
    const auto got = wait<Selectors>([&](Done<Selectors> done) {
      instance->run<Selectors>(
          [table = instance->table<limpet_workload_attestor>(), fd = self](limpet_instance* plugin, limpet_op* op) {
            const limpet_workload w = {sizeof w, ::getpid(), fd, 0, 0, 0, {}, {}};
            table->attest(plugin, op, &w, &on_selectors);
          },
          200, std::move(done));
    });
    const std::string text = outcome(got);
    EXPECT_TRUE(text.starts_with("DeadlineExceeded: workloadattestor(systemd): systemd at " + bus.address() +
                                 " did not answer in the "))
        << text;
    slow = false;
    const auto next = attest();
    ASSERT_EQ(outcome(next), "ok") << "the manager is as good as before";
    EXPECT_EQ(*next, kWeb);
  }
  EXPECT_EQ(callers, Selectors(callers.size(), callers[0])) << "and the connection is";
}

// A socket that takes connections and says nothing.
TEST_P(SystemdWorkload, ABusThatNeverGreetsIsLeftAtTheDeadline) {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un at = {};
  at.sun_family = AF_UNIX;
  const std::string path = directory + "/bus";
  path.copy(at.sun_path, sizeof at.sun_path - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  use(address(), 300);
  EXPECT_EQ(outcome(attest()).substr(0, 17), "DeadlineExceeded:");
  ::close(listener);
}

TEST_P(SystemdWorkload, StoppingDoesNotWaitForAManagerThatHangs) {
  const TestBus bus(directory);
  FakeManager manager(bus.address(), [](sd_bus_message*, const std::string& member) { return member == "Id"; });
  use(bus.address(), 60'000);
  Waiter<Selectors> waiter;
  attestor->attest({::getpid(), self, 0, 0}, waiter.arm());
  while (manager.calls().empty() || manager.calls().back() != "Id") {
    loop.run_ready();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  instance->close();
  EXPECT_EQ(logged("abandoned"), 0u);
}

}  // namespace
}  // namespace limpet
