// SPDX-License-Identifier: Apache-2.0
#pragma once
// A key in the key manager and a CSR signed with it: the agent's own at each renewal, and the ones that operators get
// certificates for. A member of the one who asks; loop thread only.

#include "loop/done.h"
#include "plugin/key_manager.h"

namespace limpet {

struct CsrWish {
  std::string key_id;
  KeyType type = KeyType::ec_p256;
  Bytes subject;  // DER Name
  std::vector<std::string> dns_names = {};
  bool keep = false;  // a key that is there is used; else a new one takes its place
};

struct KeyAndCsr {
  ManagedKey key;
  Bytes csr;  // DER
};

class KeyCsrFlow {
 public:
  explicit KeyCsrFlow(KeyManager& keys) : keys_(keys) {}
  // FAILED_PRECONDITION: the key to keep is of another type.
  void start(CsrWish wish, Done<KeyAndCsr> done);

 private:
  void generate();
  void on_listed(Result<std::vector<ManagedKey>> keys);
  void on_key(Result<ManagedKey> key);
  void on_signed(Result<Bytes> signature);
  void end(Result<KeyAndCsr> result);

  KeyManager& keys_;
  CsrWish wish_;
  ManagedKey key_;
  Bytes info_;
  Done<KeyAndCsr> done_;
  Pending<std::vector<ManagedKey>> listed_;
  Pending<ManagedKey> generated_;
  Pending<Bytes> signed_;
};

}  // namespace limpet
