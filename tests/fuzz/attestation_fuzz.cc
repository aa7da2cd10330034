// SPDX-License-Identifier: Apache-2.0
// What node attestors read from peers: Go's JSON, x509pop's messages, SSH certificates, keys and key files,
// http_challenge's messages and requests.
#include "fuzz.h"
#include "node_attestor_http_challenge/messages.h"
#include "node_attestor_http_challenge/patterns.h"
#include "node_attestor_http_challenge/request.h"
#include "node_attestor_sshpop/ssh_key_file.h"
#include "node_attestor_sshpop/ssh_wire.h"
#include "node_attestor_x509pop/proof.h"

using namespace limpet::http_challenge;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const limpet::BytesView input(data + 1, size - 1);
  switch (data[0] & 7) {
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
    case 4:
      (void)limpet::sshpop::parse_openssh_key(input);
      break;
    case 5:
      if (const auto place = decode_payload(input);
          place && host_name_problem(place->hostname).empty() && is_agent_name(place->agentname)) {
        // what is accepted can be written and read again, and has no character that ends a request line
        const auto again = decode_payload(limpet::as_bytes(encode_payload(*place)));
        FUZZ_CHECK(again && again->hostname == place->hostname && again->port == place->port);
        FUZZ_CHECK(place->url().find_first_of(" \r\n\t?#@") == std::string::npos);
      }
      break;
    case 6:
      (void)decode_challenge(input);
      (void)to_posix(limpet::as_text(input));
      break;
    default:
      (void)answer_to(limpet::as_text(input), "/n", "nonce\n");
  }
  return 0;
}
