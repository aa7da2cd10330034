// SPDX-License-Identifier: Apache-2.0
#include "store/agents.h"

#include "store/codec.h"
#include "store/selector_codec.h"

namespace limpet {

Bytes encode_agent(const AgentRecord& agent) {
  ProtoWriter out;
  out.text(1, agent.id);
  out.text(2, agent.attestation_type);
  out.text(3, agent.serial);
  out.number(4, agent.not_after);
  out.text(5, agent.new_serial);
  out.number(6, agent.new_not_after);
  write_selectors(out, 7, agent.selectors);
  out.flag(8, agent.can_reattest);
  out.text(9, agent.agent_version);
  return out.take();
}

Result<AgentRecord> decode_agent(BytesView bytes) {
  AgentRecord agent;
  ProtoReader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1:
        agent.id = in.text();
        break;
      case 2:
        agent.attestation_type = in.text();
        break;
      case 3:
        agent.serial = in.text();
        break;
      case 4:
        agent.not_after = in.number();
        break;
      case 5:
        agent.new_serial = in.text();
        break;
      case 6:
        agent.new_not_after = in.number();
        break;
      case 7:
        if (!read_selector(in.bytes(), agent.selectors)) return malformed_row("agent " + agent.id);
        break;
      case 8:
        agent.can_reattest = in.flag();
        break;
      case 9:
        agent.agent_version = in.text();
        break;
      default:
        break;
    }
  }
  if (!in.ok()) return malformed_row("agent " + agent.id);
  return agent;
}

Result<AgentRow> agent_at(const Snapshot& snapshot, uint64_t row) {
  auto bytes = snapshot.get(TableId::agents, encode_u64(row));
  if (!bytes && bytes.error().code == Code::not_found) return fail(Code::not_found, "agent not found");
  if (!bytes) return fail(std::move(bytes).error());
  TRY_ASSIGN(AgentRecord agent, decode_agent(*bytes));
  return AgentRow{row, std::move(agent)};
}

Result<AgentRow> find_agent(const Snapshot& snapshot, std::string_view id) {
  auto row = snapshot.get(TableId::agent_ids, text_key(id));
  if (!row && row.error().code == Code::not_found) return fail(Code::not_found, "agent not found");
  if (!row) return fail(std::move(row).error());
  return agent_at(snapshot, decode_u64(*row));
}

Result<void> scan_agents(const Snapshot& snapshot, uint64_t after, const std::function<bool(AgentRow&&)>& visit) {
  if (after == UINT64_MAX) return {};
  Result<void> verdict;
  auto on_row = [&visit, &verdict](BytesView key, BytesView value) {
    Result<AgentRecord> agent = decode_agent(value);
    if (!agent) {
      verdict = fail(std::move(agent).error());
      return false;
    }
    return visit(AgentRow{decode_u64(key), std::move(*agent)});
  };
  TRY(snapshot.scan(TableId::agents, encode_u64(after + 1), on_row));
  return verdict;
}

uint64_t AgentTable::create(ChangeSet& changes, const AgentRecord& agent) {
  uint64_t row = rows_.next(changes);
  Bytes number = encode_u64(row);
  Bytes id = text_key(agent.id);
  changes.require_absent(TableId::agent_ids, id);
  changes.put(TableId::agents, number, encode_agent(agent));
  changes.put(TableId::agent_ids, id, number);
  return row;
}

void AgentTable::update(ChangeSet& changes, const AgentRow& old, const AgentRecord& agent) {
  Bytes number = encode_u64(old.row);
  changes.require_equal(TableId::agents, number, encode_agent(old.agent));
  changes.put(TableId::agents, number, encode_agent(agent));
}

void AgentTable::remove(ChangeSet& changes, const AgentRow& old) {
  Bytes number = encode_u64(old.row);
  changes.require_equal(TableId::agents, number, encode_agent(old.agent));
  changes.remove(TableId::agents, number);
  changes.remove(TableId::agent_ids, text_key(old.agent.id));
}

}  // namespace limpet
