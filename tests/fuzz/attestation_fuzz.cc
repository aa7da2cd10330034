// SPDX-License-Identifier: Apache-2.0
// What node attestors read from peers: Go's JSON, x509pop's messages, SSH certificates, keys and key files.
#include "fuzz.h"
#include "node_attestor_sshpop/ssh_key_file.h"
#include "node_attestor_sshpop/ssh_wire.h"
#include "node_attestor_x509pop/proof.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const limpet::BytesView input(data + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      (void)limpet::x509pop::decode_payload(input);
      break;
    case 1:
      (void)limpet::x509pop::decode_answer(input, (data[0] & 0x80) != 0);
      break;
    case 2:
      (void)limpet::sshpop::SshCertificate::parse(input);
      break;
    case 3:
      (void)limpet::sshpop::parse_key(input);
      break;
    default:
      (void)limpet::sshpop::parse_openssh_key(input);
  }
  return 0;
}
