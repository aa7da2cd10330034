// SPDX-License-Identifier: Apache-2.0
// What attesting a node with its TPM costs: whole conversations of the plugin `tpm`'s two halves, agent and server in
// one program, with a software TPM at a Unix socket. The server knows the TPM as enrolled by its hash.
//   tpm_bench NODE_ATTESTOR_TPM.so SOCKET rsa|ecc SECONDS
// One line of key=value, for tools/bench.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "plugin/node_attestor.h"
#include "plugin_bench.h"

namespace limpet {
namespace {

using Clock_ = std::chrono::steady_clock;
using namespace bench;

// Every TPM that asks is on the list; which one asked is kept.
struct Enrolled final : DeviceLookup {
  explicit Enrolled(UvLoop& l) : loop(l) {}
  void find(const std::string& attestor, const std::string& identifier, Done<KnownDevice> done) override {
    asked = attestor + " " + identifier;
    loop.post([d = std::move(done)]() mutable { d(KnownDevice{true, "bench", 1}); });
  }
  UvLoop& loop;
  std::string asked;
};

struct Bench {
  UvLoop loop;
  Enrolled devices{loop};

  std::shared_ptr<Instance> instance(const limpet_plugin& plugin, const char* interface_id, const std::string& json) {
    const limpet_component* component = find_component(plugin, interface_id, "tpm");
    if (component == nullptr) give_up("this is not the plugin tpm");
    HostServices services;
    services.devices = &devices;
    return make_instance(loop, *component, json, services);
  }

  // One attestation, from the agent's first word to the server's verdict; the milliseconds it took.
  double attest(NodeAttestorAgent& agent, NodeAttestorServer& server) {
    const auto before = Clock_::now();
    auto ours = agent.open();
    auto theirs = server.open("127.0.0.1");
    Await<Bytes> payload(loop);
    ours->payload(payload.done());
    Bytes said = payload.get();
    for (;;) {
      Await<AttestStep> step(loop);
      theirs->step(std::move(said), step.done());
      AttestStep verdict = step.get();
      if (verdict.attested) {
        if (devices.asked.empty() || !verdict.agent_path.starts_with("/spire/agent/tpm/")) give_up("not by its hash");
        return std::chrono::duration<double, std::milli>(Clock_::now() - before).count();
      }
      Await<Bytes> answer(loop);
      ours->answer(std::move(verdict.challenge), answer.done());
      said = answer.get();
    }
  }

  int run(const std::string& path, const std::string& socket, const std::string& key_type, int seconds) {
    const limpet_plugin* plugin = need(load_plugin_file(path, digest_of(path)));
    auto agent = make_node_attestor_agent(
        instance(*plugin, LIMPET_NODE_ATTESTOR_AGENT,
                 "{\"device\":\"swtpm:path=" + socket + "\",\"key_type\":\"" + key_type + "\"}"));
    auto server = make_node_attestor_server(instance(*plugin, LIMPET_NODE_ATTESTOR_SERVER, "{}"));
    for (int i = 0; i < 2; ++i) (void)attest(*agent, *server);
    std::vector<double> took;
    const auto start = Clock_::now();
    double elapsed = 0;
    while (elapsed < seconds || took.size() < 5) {
      took.push_back(attest(*agent, *server));
      elapsed = std::chrono::duration<double>(Clock_::now() - start).count();
    }
    std::ranges::sort(took);
    const size_t count = took.size();
    std::printf("rounds=%zu rate=%.2f p50_ms=%.1f p99_ms=%.1f\n", count, static_cast<double>(count) / elapsed,
                took[count / 2], took[count * 99 / 100]);
    return 0;
  }
};

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  if (argc != 5 || std::atoi(argv[4]) < 1) {
    std::fputs("usage: tpm_bench NODE_ATTESTOR_TPM.so SOCKET rsa|ecc SECONDS\n", stderr);
    return 2;
  }
  limpet::Bench bench;
  return bench.run(argv[1], argv[2], argv[3], std::atoi(argv[4]));
}
