// SPDX-License-Identifier: Apache-2.0
#include "agent/svid_row.h"

#include "crypto/seal.h"
#include "store/codec.h"

namespace limpet::agent {

// 1 chain, 2 sealed key, 3 revision_number and 4 created_at of its entry, 5 not_before, 6 not_after, 7 root_key_id: so
// that nothing needs to be parsed at start.
Result<std::unique_ptr<CachedSvid>> decode_svid_row(const SecretBytes& seal_key, BytesView id, BytesView row) {
  auto svid = std::make_unique<CachedSvid>();
  Bytes sealed;
  ProtoReader in(row);
  while (in.next()) {
    if (in.field() == 1) svid->chain = to_bytes(in.bytes());
    if (in.field() == 2) sealed = to_bytes(in.bytes());
    if (in.field() == 3) svid->revision_number = in.number();
    if (in.field() == 4) svid->created_at = in.number();
    if (in.field() == 5) svid->not_before = in.number();
    if (in.field() == 6) svid->not_after = in.number();
    if (in.field() == 7) svid->root_key_id = to_bytes(in.bytes());
  }
  if (!in.ok()) return malformed_row("workload SVID");
  TRY_ASSIGN(svid->key, unseal(seal_key, id, sealed));
  if (svid->chain.empty() || svid->not_after == 0) return malformed_row("workload SVID");
  return svid;
}

Result<Bytes> encode_svid_row(const SecretBytes& seal_key, BytesView id, const CachedSvid& svid) {
  TRY_ASSIGN(const Bytes sealed, seal(seal_key, id, svid.key.view()));
  ProtoWriter row;
  row.bytes(1, svid.chain);
  row.bytes(2, sealed);
  row.number(3, svid.revision_number);
  row.number(4, svid.created_at);
  row.number(5, svid.not_before);
  row.number(6, svid.not_after);
  row.bytes(7, svid.root_key_id);
  return row.take();
}

}  // namespace limpet::agent
