// SPDX-License-Identifier: Apache-2.0
// Flows of the server's APIs, destroyed after each of their steps: under AddressSanitizer this proves that nothing
// points at a flow any more once it is gone, whatever it was waiting for.
#include <gtest/gtest.h>

#include "proto/spire_bundle.pb.h"
#include "proto/spire_debug.pb.h"
#include "proto/spire_entry.pb.h"
#include "proto/spire_svid.pb.h"
#include "server/ca_flows.h"
#include "server/server_svid.h"
#include "server_rig.h"
#include "wire/api_types.h"

namespace limpet::server::test {
namespace {

constexpr const char* kAgent = "/spire/agent/join_token/t";

// How a call is made: to which method, by whom, with which messages.
struct Scene {
  const char* service;  // behind spire.api.server.
  const char* method;
  bool by_agent;
  std::vector<Bytes> messages;
  size_t least_steps;
};

struct Stage : ServerRig {
  Stage() {
    EXPECT_TRUE(start());
    put_agent(kAgent, "9");
    put_entry(entry("e-1", kAgent, "/web"));
    put_entry(entry("e-2", "/host", "/db"));
    put_many();
  }
  // More than one turn's worth of rows, and more than one page of a sync.
  void put_many() {
    EntryTable table(store->read());
    ChangeSet changes;
    for (int i = 0; i < 2'100; ++i) {
      const std::string name = "m" + std::to_string(i);
      table.create(changes, entry(name, i < 600 ? kAgent : "/host", "/" + name));
    }
    EXPECT_TRUE(commit(std::move(changes)));
  }
  Open begin(const Scene& scene) {
    auto peer = scene.by_agent ? remote({certificate(std::string("spiffe://example.org") + kAgent)}) : local();
    Open open = this->open(std::string("spire.api.server.") + scene.service, scene.method, std::move(peer));
    for (const Bytes& message : scene.messages) open.call->say(message);
    open.call->close();
    return open;
  }
};

// Runs the scene to its end, then anew for each of its steps and destroys the flow there.
void destroy_at_each_step(const Scene& scene) {
  SCOPED_TRACE(scene.method);
  size_t total = 0;
  for (size_t die_at = 0; die_at == 0 || die_at <= total; ++die_at) {
    Stage stage;
    auto open = stage.begin(scene);
    ASSERT_NE(open.flow, nullptr);
    size_t step = 0;
    const size_t most = die_at == 0 ? 200 : die_at - 1;
    while (step < most && !open.call->status) {
      if (!stage.step()) stage.loop.run_next_timer();
      ++step;
    }
    if (die_at == 0) {
      total = step;
      ASSERT_EQ(open.call->code(), Code::ok) << open.call->message();
      ASSERT_GE(total, scene.least_steps);
    }
    open.flow.reset();
    stage.run();
  }
}

template <class Request>
Bytes encoded(const wire::Message<Request>& message) {
  return *message.encode();
}

void fill(spire_api_types_Entry& out, const char* id, const char* path) {
  wire::set_string(out.id, id);
  wire::write_id(out.has_spiffe_id, out.spiffe_id, *SpiffeId::parse(std::string("spiffe://example.org") + path));
  wire::write_id(out.has_parent_id, out.parent_id, *SpiffeId::parse("spiffe://example.org/host"));
  auto* selectors = wire::set_array(out.selectors, out.selectors_count, 1);
  wire::set_string(selectors->type, "unix");
  wire::set_string(selectors->value, "uid:1");
}

template <class Request>
Bytes one_entry(const char* id) {
  wire::Message<Request> request;
  fill(*wire::set_array(request->entries, request->entries_count, 1), id, "/new");
  return encoded(request);
}

TEST(EntryFlows, MayDieAtEachOfTheirSteps) {
  constexpr const char* kService = "entry.v1.Entry";
  wire::Message<spire_api_server_entry_v1_BatchDeleteEntryRequest> remove;
  wire::set_string(*wire::set_array(remove->ids, remove->ids_count, 1), "e-1");
  wire::Message<spire_api_server_entry_v1_ListEntriesRequest> list;
  list->page_size = 1;
  list->has_filter = true;
  list->filter.has_by_spiffe_id = true;  // of none: every row is looked at
  wire::set_string(list->filter.by_spiffe_id.trust_domain, "example.org");
  wire::set_string(list->filter.by_spiffe_id.path, "/none");
  wire::Message<spire_api_server_entry_v1_CountEntriesRequest> count;
  count->has_filter = true;
  wire::Message<spire_api_server_entry_v1_GetEntryRequest> get;
  wire::set_string(get->id, "e-1");
  destroy_at_each_step(
      {kService, "BatchCreateEntry", false, {one_entry<spire_api_server_entry_v1_BatchCreateEntryRequest>("new")}, 3});
  destroy_at_each_step(
      {kService, "BatchUpdateEntry", false, {one_entry<spire_api_server_entry_v1_BatchUpdateEntryRequest>("e-1")}, 3});
  destroy_at_each_step({kService, "BatchDeleteEntry", false, {encoded(remove)}, 3});
  destroy_at_each_step({kService, "ListEntries", false, {encoded(list)}, 3});
  destroy_at_each_step({kService, "CountEntries", false, {encoded(count)}, 3});
  destroy_at_each_step({kService, "GetEntry", false, {encoded(get)}, 2});
}

TEST(AuthorizedFlows, MayDieAtEachOfTheirSteps) {
  constexpr const char* kService = "entry.v1.Entry";
  wire::Message<spire_api_server_entry_v1_SyncAuthorizedEntriesRequest> first, wanted;
  char** ids = wire::set_array(wanted->ids, wanted->ids_count, 501);
  for (size_t i = 0; i < 501; ++i) wire::set_string(ids[i], "m" + std::to_string(i));
  destroy_at_each_step({kService,
                        "GetAuthorizedEntries",
                        true,
                        {encoded(wire::Message<spire_api_server_entry_v1_GetAuthorizedEntriesRequest>())},
                        2});
  destroy_at_each_step({kService, "SyncAuthorizedEntries", true, {encoded(first), encoded(wanted)}, 6});
}

TEST(OtherFlows, MayDieAtEachOfTheirSteps) {
  wire::Message<spire_api_server_svid_v1_MintX509SVIDRequest> mint;
  wire::set_bytes(mint->csr, ServerRig::csr({"spiffe://example.org/web"}));
  wire::Message<spire_api_server_bundle_v1_AppendBundleRequest> append;
  auto* root = wire::set_array(append->x509_authorities, append->x509_authorities_count, 1);
  {
    Stage stage;
    wire::set_bytes(root->asn1, stage.core->ca().current()->authority->certificate.der);
  }
  destroy_at_each_step({"svid.v1.SVID", "MintX509SVID", false, {encoded(mint)}, 4});
  destroy_at_each_step({"bundle.v1.Bundle", "AppendBundle", false, {encoded(append)}, 3});
  destroy_at_each_step(
      {"debug.v1.Debug", "GetInfo", false, {encoded(wire::Message<spire_api_server_debug_v1_GetInfoRequest>())}, 2});
}

// Starts a server core on the rig's store and keys and destroys it after `die_at` steps; SIZE_MAX: lets it run. The
// steps it took.
size_t start_and_die(ServerRig& rig, size_t die_at) {
  auto made = ServerCore::make(
      rig.loop, {rig.clock, Logger::none(), rig.health, *rig.store, rig.keys, {}, rig.upstream, rig.fetcher},
      rig.config);
  EXPECT_TRUE(made);
  if (!made) return 0;
  auto core = std::move(*made);
  Waited started;
  core->start(started.done());
  size_t step = 0;
  while (step < std::min<size_t>(die_at, 100) && !started.result) {
    if (!rig.step()) rig.loop.run_next_timer();
    ++step;
  }
  if (die_at == SIZE_MAX) {
    EXPECT_TRUE(started.result && *started.result);
  }
  core.reset();
  rig.run();
  return step;
}

TEST(CaFlows, MayDieAtEachOfTheirSteps) {  // LoadCaFlow, then PrepareCaFlow
  ServerRig whole;
  const size_t first = start_and_die(whole, SIZE_MAX);
  EXPECT_GE(first, 6u);
  for (size_t die_at = 0; die_at <= first; ++die_at) {
    ServerRig rig;
    (void)start_and_die(rig, die_at);
    (void)start_and_die(rig, SIZE_MAX);  // and what was left behind does not stop the next one
  }
  const size_t again = start_and_die(whole, SIZE_MAX);  // LoadCaFlow, with slots to find
  EXPECT_GE(again, 2u);
  for (size_t die_at = 0; die_at <= again; ++die_at) (void)start_and_die(whole, die_at);
}

TEST(ServerSvid, MayDieAtEachOfItsSteps) {
  size_t total = 0;
  for (size_t die_at = 0; die_at == 0 || die_at <= total; ++die_at) {
    ServerRig rig;
    ASSERT_TRUE(rig.start());
    auto svid = std::make_unique<ServerSvid>(rig.loop, rig.clock, Logger::none(), rig.health, rig.core->ca(),
                                             *TrustDomain::parse(kDomain), 3600);
    Waited started;
    svid->start(started.done());
    size_t step = 0;
    const size_t most = die_at == 0 ? 100 : die_at - 1;
    while (step < most && !started.result) {
      if (!rig.step()) rig.loop.run_next_timer();
      ++step;
    }
    if (die_at == 0) {
      total = step;
      EXPECT_TRUE(started.result && *started.result);
      EXPECT_GE(total, 3u);
    }
    svid.reset();
    rig.run();
  }
}

}  // namespace
}  // namespace limpet::server::test
