// SPDX-License-Identifier: Apache-2.0
#include "store/plugin_state.h"

#include "store/codec.h"

namespace limpet {

namespace {

Bytes row_key(const std::string& owner, const std::string& key) { return to_bytes(owner + "/" + key); }
// In the counters table: how many keys an owner has.
std::string counter(const std::string& owner) { return "plugin-state/" + owner; }

}  // namespace

PluginState::Lane& PluginState::lane(const std::string& owner) {
  std::unique_ptr<Lane>& found = lanes_[owner];
  if (found == nullptr) found = std::make_unique<Lane>(*this, owner);
  return *found;
}

void PluginState::get(const std::string& owner, std::string key, Done<Bytes> done) {
  lane(owner).add({Kind::get, std::move(key), {}, std::move(done)});
}
void PluginState::put(const std::string& owner, std::string key, Bytes value, Done<Bytes> done) {
  lane(owner).add({Kind::put, std::move(key), std::move(value), std::move(done)});
}
void PluginState::remove(const std::string& owner, std::string key, Done<Bytes> done) {
  lane(owner).add({Kind::remove, std::move(key), {}, std::move(done)});
}

void PluginState::Lane::add(Request request) {
  waiting.push_back(std::move(request));
  if (waiting.size() == 1) turn.start<&Lane::step>(0, this);
}

void PluginState::Lane::step() {
  const Request& request = waiting.front();
  if (request.kind == Kind::get) {
    const Snapshot snapshot = all.store_.read();
    const auto row = snapshot.get(TableId::plugin_state, row_key(owner, request.key));
    if (row) return answer(to_bytes(*row));
    if (row.error().code == Code::not_found) return answer(fail(Code::not_found, "no such key"));
    return answer(fail(row.error()));
  }
  Result<ChangeSet> wanted = changes(request);
  if (!wanted) return answer(fail(std::move(wanted).error()));
  if (wanted->empty()) return answer(Bytes());
  all.store_.commit(std::move(*wanted), committed.then<&Lane::on_committed>(this));
}

Result<ChangeSet> PluginState::Lane::changes(const Request& request) const {
  const Snapshot snapshot = all.store_.read();
  const Bytes key = row_key(owner, request.key);
  const auto row = snapshot.get(TableId::plugin_state, key);
  // a damaged value may be written anew, or removed
  const bool there = row || row.error().code == Code::data_loss;
  if (!there && row.error().code != Code::not_found) return fail(row.error());
  uint64_t count = 0;
  if (const auto kept = snapshot.get(TableId::counters, as_bytes(counter(owner)))) count = decode_u64(*kept);
  ChangeSet out;
  if (request.kind == Kind::put) {
    if (!there && count >= all.most_) {
      return fail(Code::resource_exhausted,
                  owner + " keeps " + std::to_string(count) + " keys already; remove some that are no longer needed");
    }
    out.put(TableId::plugin_state, key, request.value);
    if (!there) out.put(TableId::counters, as_bytes(counter(owner)), encode_u64(count + 1));
  } else if (there) {
    out.remove(TableId::plugin_state, key);
    out.put(TableId::counters, as_bytes(counter(owner)), encode_u64(count > 0 ? count - 1 : 0));
  }
  return out;
}

void PluginState::Lane::on_committed(Result<uint64_t> revision) {
  if (!revision) return answer(fail(std::move(revision).error()));
  answer(Bytes());
}

// The one who waited may hand in the next request.
void PluginState::Lane::answer(Result<Bytes> result) {
  Done<Bytes> done = std::move(waiting.front().done);
  waiting.pop_front();
  if (!waiting.empty()) turn.start<&Lane::step>(0, this);
  done(std::move(result));
}

}  // namespace limpet
