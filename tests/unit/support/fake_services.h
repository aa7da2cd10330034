// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands behind a plugin's host services in tests: each keeps what it was asked, and the test answers.

#include <map>
#include <string>
#include <vector>

#include "crypto/pss.h"
#include "loop/loop.h"
#include "plugin/grpc_caller.h"
#include "plugin/http_caller.h"
#include "plugin/plugin_keys.h"
#include "plugin/private_state.h"
#include "plugin/sealer.h"
#include "plugin/server_facts.h"

namespace limpet::test {

template <class Asked, class Answer>
struct Kept {
  std::vector<Asked> asked;
  std::vector<Done<Answer>> waiting;
};
struct FakeGrpc final : GrpcCaller, Kept<GrpcRequest, Bytes> {
  void call(GrpcRequest request, Done<Bytes> done) override {
    asked.push_back(std::move(request));
    waiting.push_back(std::move(done));
  }
};
struct FakeHttp final : HttpCaller, Kept<PlainGet, PlainReply> {
  [[nodiscard]] bool has_room() const override { return !full; }
  void get(PlainGet request, Done<PlainReply> done) override {
    asked.push_back(std::move(request));
    waiting.push_back(std::move(done));
  }
  bool full = false;
};
struct FakeAgents final : AgentLookup, Kept<std::string, KnownAgent> {
  void find(const std::string& id, Done<KnownAgent> done) override {
    asked.push_back(id);
    waiting.push_back(std::move(done));
  }
};
// Answers by itself. It takes the place of the host's among the services, before instances are made.
struct AgentTable final : AgentLookup {
  AgentTable(Loop& on, AgentLookup*& place) : loop(on) { place = this; }
  void find(const std::string& id, Done<KnownAgent> done) override {
    asked.push_back(id);
    Result<KnownAgent> answer = fail(Code::not_found, "agent not found");
    if (const auto agent = banned.find(id); agent != banned.end()) answer = KnownAgent{id, "x", agent->second};
    if (broken) answer = fail(Code::data_loss, "bad row");
    loop.post([d = std::move(done), a = std::move(answer)]() mutable { d(std::move(a)); });
  }
  Loop& loop;
  std::map<std::string, bool> banned;  // the agents that are known
  std::vector<std::string> asked;
  bool broken = false;
};

struct FakeDevices final : DeviceLookup, Kept<std::pair<std::string, std::string>, KnownDevice> {
  void find(const std::string& attestor, const std::string& identifier, Done<KnownDevice> done) override {
    asked.emplace_back(attestor, identifier);
    waiting.push_back(std::move(done));
  }
};
struct FakeState final : PrivateState, Kept<std::string, Bytes> {
  void get(const std::string& owner, std::string key, Done<Bytes> done) override {
    keep("get " + owner + " " + key, std::move(done));
  }
  void put(const std::string& owner, std::string key, Bytes value, Done<Bytes> done) override {
    keep("put " + owner + " " + key + " " + std::to_string(value.size()), std::move(done));
  }
  void remove(const std::string& owner, std::string key, Done<Bytes> done) override {
    keep("remove " + owner + " " + key, std::move(done));
  }
  void keep(std::string what, Done<Bytes> done) {
    asked.push_back(std::move(what));
    waiting.push_back(std::move(done));
  }
};

// A key manager in memory.
class KeyHolder final : public KeyManager {
 public:
  explicit KeyHolder(Loop& loop) : loop_(loop) {}
  void put(const std::string& id, const PrivateKey& key) { keys[id] = &key; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  void generate(const std::string&, KeyType, Done<ManagedKey>) override {}
  void list(Done<std::vector<ManagedKey>> done) override {
    ++lists;
    std::vector<ManagedKey> all;
    for (const auto& [id, key] : keys) all.push_back({id, key->type(), key->public_key(), fingerprint(*key)});
    later<std::vector<ManagedKey>>(std::move(done), std::move(all));
  }
  void sign(const ManagedKey& key, HashAlg alg, Bytes digest, Done<Bytes> done) override {
    sign_pss(key, alg, -1, std::move(digest), std::move(done));
  }
  void sign_pss(const ManagedKey& key, HashAlg alg, int32_t salt, Bytes digest, Done<Bytes> done) override {
    const auto place = keys.find(key.id);
    asked.push_back(key.id + (salt < 0 ? "" : " pss " + std::to_string(salt)));
    if (silent) return held.push_back(std::move(done));
    if (place == keys.end()) return later<Bytes>(std::move(done), fail(Code::not_found, "no key " + key.id));
    if (fingerprint(*place->second) != key.fingerprint)
      return later<Bytes>(std::move(done), fail(Code::failed_precondition, key.id + " was replaced"));
    later<Bytes>(std::move(done),
                 salt < 0 ? place->second->sign(alg, digest) : limpet::sign_pss(*place->second, digest));
  }
  void remove(const std::string&, Done<void>) override {}
  std::shared_ptr<const BlockingSigner> blocking_signer(const ManagedKey&) override { return nullptr; }

  std::map<std::string, const PrivateKey*> keys;
  std::vector<std::string> asked;
  std::vector<Done<Bytes>> held;
  bool silent = false;
  int lists = 0;

 private:
  static std::string fingerprint(const PrivateKey& key) { return hex_encode(sha256(key.public_key().spki())); }
  template <class T>
  void later(Done<T> done, Result<T> result) {
    loop_.post([d = std::move(done), r = std::move(result)]() mutable { d(std::move(r)); });
  }
  Loop& loop_;
  std::string name_ = "holder";
};

// Opens what it sealed with the same context.
class OpenSealer final : public Sealer {
 public:
  explicit OpenSealer(Loop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void seal(SecretBytes plain, Bytes context, Done<Bytes> done) override {
    Bytes blob = to_bytes(device + hex_encode(context) + "/");
    append(blob, plain.view());
    answer<Bytes>(std::move(done), std::move(blob));
  }
  void unseal(Bytes blob, Bytes context, Done<SecretBytes> done) override {
    const std::string before = device + hex_encode(context) + "/";
    if (as_text(blob).starts_with(before))
      return answer<SecretBytes>(std::move(done), SecretBytes(BytesView(blob).subspan(before.size())));
    answer<SecretBytes>(std::move(done), fail(Code::failed_precondition, "another device"));
  }
  std::string device = "one";
  bool away = false;

 private:
  template <class T>
  void answer(Done<T> done, Result<T> result) {
    if (away) result = fail(Code::unavailable, "no such device");
    loop_.post([d = std::move(done), r = std::move(result)]() mutable { d(std::move(r)); });
  }
  Loop& loop_;
  std::string name_ = "open";
};

}  // namespace limpet::test
