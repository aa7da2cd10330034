// SPDX-License-Identifier: Apache-2.0
#pragma once
// Small private state of plugins: a few keys for each component, its owner. An owner's requests are done one after the
// other, so that a get sees the put before it and the number of keys is exact; those of different owners do not wait
// for each other. Owned by main beside the plugins; store and loop outlive it. Loop thread only.

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "loop/loop.h"
#include "store/store.h"

namespace limpet {

class PluginState {
 public:
  // `most` keys for each owner.
  PluginState(Loop& loop, Store& store, size_t most) : loop_(loop), store_(store), most_(most) {}
  PluginState(const PluginState&) = delete;
  PluginState& operator=(const PluginState&) = delete;

  // NOT_FOUND "no such key"; DATA_LOSS. An owner has no slash in its name.
  void get(const std::string& owner, std::string key, Done<Bytes> done);
  // Answer with nothing when it is on disk. RESOURCE_EXHAUSTED: the key would be one too many; and as Store::commit.
  // A request that was handed in is carried out even when nobody waits for its answer any more.
  void put(const std::string& owner, std::string key, Bytes value, Done<Bytes> done);
  void remove(const std::string& owner, std::string key, Done<Bytes> done);

 private:
  enum class Kind : uint8_t { get, put, remove };
  struct Request {
    Kind kind;
    std::string key;
    Bytes value;
    Done<Bytes> done;
  };
  struct Lane {
    Lane(PluginState& state, std::string name) : all(state), owner(std::move(name)), turn(state.loop_) {}
    void add(Request request);
    void step();
    void on_committed(Result<uint64_t> revision);
    void answer(Result<Bytes> result);
    Result<ChangeSet> changes(const Request& request) const;

    PluginState& all;
    const std::string owner;
    std::deque<Request> waiting;  // the first one is being done
    Timer turn;
    Pending<uint64_t> committed;
  };
  Lane& lane(const std::string& owner);

  Loop& loop_;
  Store& store_;
  const size_t most_;
  std::map<std::string, std::unique_ptr<Lane>> lanes_;  // as many as there are components
};

}  // namespace limpet
