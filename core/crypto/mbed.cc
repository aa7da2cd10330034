// SPDX-License-Identifier: Apache-2.0
#include "crypto/mbed.h"

namespace limpet {

namespace {

Result<void> ok_or(const char* what, int code) {
  if (code != 0) return fail(mbed_error(what, code));
  return {};
}

int copy_ec(mbedtls_pk_context& out, const mbedtls_ecp_keypair* from) {
  mbedtls_ecp_keypair* to = mbedtls_pk_ec(out);
  int code = mbedtls_ecp_group_copy(&to->MBEDTLS_PRIVATE(grp), &from->MBEDTLS_PRIVATE(grp));
  if (code == 0) code = mbedtls_mpi_copy(&to->MBEDTLS_PRIVATE(d), &from->MBEDTLS_PRIVATE(d));
  if (code == 0) code = mbedtls_ecp_copy(&to->MBEDTLS_PRIVATE(Q), &from->MBEDTLS_PRIVATE(Q));
  return code;
}

}  // namespace

Result<void> load_pk(mbedtls_pk_context& out, const PrivateKey& key) {
  const PrivateKey::Impl& impl = key.impl();
  const bool rsa = impl.public_key.is_rsa();
  TRY(ok_or("load key", mbedtls_pk_setup(&out, mbedtls_pk_info_from_type(rsa ? MBEDTLS_PK_RSA : MBEDTLS_PK_ECKEY))));
  if (rsa) return ok_or("load key", mbedtls_rsa_copy(mbedtls_pk_rsa(out), mbedtls_pk_rsa(*impl.pk)));
  return ok_or("load key", copy_ec(out, mbedtls_pk_ec(*impl.pk)));
}

Result<void> load_public_pk(mbedtls_pk_context& out, const PublicKey& key) {
  auto* at = const_cast<unsigned char*>(key.spki().data());  // mbedTLS moves the pointer, it does not write through it
  return ok_or("load public key", mbedtls_pk_parse_subpubkey(&at, at + key.spki().size(), &out));
}

Result<void> load_remote_pk(mbedtls_pk_context& out, const PublicKey& key) {
  if (key.is_rsa())
    return fail(Code::failed_precondition, "RSA keys held by a key manager cannot be used for TLS: use an EC key");
  TRY(load_public_pk(out, key));
  return ok_or("load public key", mbedtls_mpi_lset(&mbedtls_pk_ec(out)->MBEDTLS_PRIVATE(d), 1));
}

}  // namespace limpet
