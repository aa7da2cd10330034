// SPDX-License-Identifier: Apache-2.0
#pragma once
// StoredSelector, which entries and agents share. Pure functions.

#include "spiffe/entry.h"
#include "store/codec.h"

namespace limpet {

inline void write_selectors(ProtoWriter& out, uint32_t field, const SelectorSet& selectors) {
  for (const Selector& selector : selectors) {
    ProtoWriter item;
    item.text(1, selector.type);
    item.text(2, selector.value);
    out.item(field, item.view());
  }
}

inline bool read_selector(BytesView bytes, SelectorSet& selectors) {
  ProtoReader in(bytes);
  Selector selector;
  while (in.next()) {
    if (in.field() == 1) selector.type = in.text();
    if (in.field() == 2) selector.value = in.text();
  }
  selectors.push_back(std::move(selector));
  return in.ok();
}

}  // namespace limpet
