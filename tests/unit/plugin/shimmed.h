// SPDX-License-Identifier: Apache-2.0
#pragma once
// A plugin in a child process, for tests: the mock "moody" (tests/abi/mocks/moody.c) behind a facade, on a real loop.

#include <gtest/gtest.h>
#include <stdio.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "crypto/key.h"
#include "loop/uv_loop.h"
#include "plugin/instance.h"
#include "plugin/key_manager_facade.h"
#include "plugin/node_attestor.h"
#include "plugin/shim_component.h"
#include "plugin/shim_proxy.h"
#include "plugin/upstream_authority.h"
#include "support/await.h"
#include "support/fake_services.h"
#include "support/open_descriptors.h"

namespace limpet::test {

// Of this process. 0 when there is none: then kill() would mean ourselves, so it is made an error.
inline pid_t only_child() {
  pid_t child = 0;
  std::ifstream("/proc/self/task/" + std::to_string(::getpid()) + "/children") >> child;
  EXPECT_GT(child, 0);
  return child > 0 ? child : INT32_MAX;
}

// Answered exactly once, or the test fails.
template <class T>
struct Await : Awaited<T> {
  using Awaited<T>::Awaited;
  Result<T> get() {
    auto result = Awaited<T>::get();
    EXPECT_EQ(this->answers(), 1);
    return result;
  }
};

inline std::string digest_of_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string all((std::istreambuf_iterator<char>(in)), {});
  return hex_encode(sha256(as_bytes(all)));
}

inline std::string text_of(const Result<Bytes>& answer) {
  return answer ? std::string(as_text(*answer)) : code_name(answer.error().code) + " " + answer.error().message;
}

struct Heard final : UpstreamWatcher {
  explicit Heard(UvLoop& l) : loop(l) {}
  void on_upstream_bundle(UpstreamBundle bundle) override {
    bundles.push_back(std::move(bundle));
    loop.stop();
  }
  void on_upstream_watch_end(Result<void> result) override {
    ends.push_back(std::move(result));
    loop.stop();
  }
  UvLoop& loop;
  std::vector<UpstreamBundle> bundles;
  std::vector<Result<void>> ends;
};

// A host that has all services.
struct EveryService {
  explicit EveryService(UvLoop& loop) : holder(loop), keys(holder), sealer(loop) {}
  HostServices offered() {
    HostServices all{&grpc, &http, &agents, &board, &devices};
    all.state = &state;
    all.keys = &keys;
    all.sealer = &sealer;
    return all;
  }
  FakeGrpc grpc;
  FakeHttp http;
  FakeAgents agents;
  IdentityBoard board;
  FakeDevices devices;
  FakeState state;
  KeyHolder holder;
  PluginKeys keys;
  OpenSealer sealer;
};

// One shimmed instance and what it needs.
class ShimTest : public ::testing::Test {
 protected:
  ShimTest() {
    settings_.program = LIMPET_SHIM;
    settings_.sandbox = false;  // a sanitizer's memory and calls fit no policy; the sandbox has tests of its own
    settings_.restart_first_ms = 5;
    settings_.ping_every_ms = 300;
    settings_.health = &health_;
    log_path_ = ::testing::TempDir() + "limpet-shim-test-" + std::to_string(::getpid()) + ".log";
    Logger::Options options;
    options.file = log_path_;
    logger_ = std::move(*Logger::open(options, clock_));
  }
  ~ShimTest() override { ::unlink(log_path_.c_str()); }

  std::string mock(const char* name = "mock_moody") { return std::string(LIMPET_MOCKS) + "/" + name + ".so"; }
  Result<std::shared_ptr<Instance>> open(const char* interface_id, const std::string& path,
                                         const char* name = "moody") {
    auto component = shim::Component::open(loop_, settings_, path, digest_of_file(path), interface_id, name);
    if (!component) return fail(component.error());
    if (!(*component)->found()) return fail(Code::not_found, "no such component");
    components_.push_back(std::move(*component));
    return Instance::create({loop_, *logger_, "example.org", services_}, *components_.back(), "test");
  }
  Result<void> configure(Instance& instance, const std::string& json = "{}", bool dry_run = false) {
    Await<void> wait(loop_);
    instance.configure(json, dry_run, wait.done());
    return wait.get();
  }
  // Opened and configured.
  std::shared_ptr<Instance> start(const char* interface_id, const char* file = "mock_moody") {
    auto instance = open(interface_id, mock(file));
    EXPECT_TRUE(instance.has_value()) << instance.error().message;
    if (!instance) std::abort();
    const auto configured = configure(**instance);
    EXPECT_TRUE(configured.has_value()) << configured.error().message;
    return *instance;
  }
  std::string sign(KeyManager& keys, const std::string& id, const std::string& digest = "digest") {
    Await<Bytes> wait(loop_);
    ManagedKey key;
    key.id = id;
    key.fingerprint = "f";
    keys.sign(key, HashAlg::sha256, to_bytes(digest), wait.done());
    return text_of(wait.get());
  }
  // What the mock's node attestor hears of a service of its host.
  std::string ask(NodeAttestorServer& server, const std::string& service) {
    const auto attempt = server.open("192.0.2.7");
    Await<AttestStep> wait(loop_);
    attempt->step(to_bytes("ask:" + service), wait.done());
    const auto step = wait.get();
    return step ? std::string(as_text(step->challenge)) : code_name(step.error().code) + " " + step.error().message;
  }
  std::string logged() {
    std::ifstream in(log_path_);
    return {(std::istreambuf_iterator<char>(in)), {}};
  }
  void turn(int64_t ms) {
    Timer timer(loop_);
    timer.start<&UvLoop::stop>(ms, &loop_);
    loop_.run();
  }
  std::string health() {
    std::string out;
    for (const auto& [part, state] : health_.parts()) {
      if (state.state != HealthState::ok) out += part + ": " + state.reason;
    }
    return out;
  }

  UvLoop loop_;
  SystemClock clock_;
  std::string log_path_;
  std::unique_ptr<Logger> logger_;
  Health health_;
  HostServices services_;
  shim::Settings settings_;
  std::vector<std::unique_ptr<shim::Component>> components_;
};

}  // namespace limpet::test
