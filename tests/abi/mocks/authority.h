/* SPDX-License-Identifier: Apache-2.0
 *
 * A certificate authority of one key, for the upstream authorities that plugin-check is tried on: in C and in C++.
 */
#ifndef AUTHORITY_H
#define AUTHORITY_H
#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* the signature of a request */
#include <limpet_plugin.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <stdlib.h>
#include <string.h>

#include "checked_ecdsa.h"

#define MAX_DER 1024
struct der {
  unsigned char bytes[MAX_DER]; /* mbedTLS writes at the end */
  size_t size;
};
struct authority {
  mbedtls_entropy_context entropy;
  mbedtls_ctr_drbg_context random;
  mbedtls_pk_context key;
  unsigned char serial;
  struct der root;
};

static inline limpet_bytes der_bytes(const struct der* der) {
  const limpet_bytes out = {der->bytes + sizeof der->bytes - der->size, der->size};
  return out;
}

/* A CA's certificate for `subject`. 0: it failed. */
static inline int authority_certify(struct authority* a, mbedtls_pk_context* subject, const char* name,
                                    struct der* out) {
  mbedtls_x509write_cert wish;
  int size;
  ++a->serial;
  mbedtls_x509write_crt_init(&wish);
  mbedtls_x509write_crt_set_md_alg(&wish, MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(&wish, subject);
  mbedtls_x509write_crt_set_issuer_key(&wish, &a->key);
  mbedtls_x509write_crt_set_subject_name(&wish, name);
  mbedtls_x509write_crt_set_issuer_name(&wish, "O=Root");
  mbedtls_x509write_crt_set_validity(&wish, "20200101000000", "20991231235959");
  mbedtls_x509write_crt_set_serial_raw(&wish, &a->serial, 1);
  mbedtls_x509write_crt_set_basic_constraints(&wish, 1, -1);
  mbedtls_x509write_crt_set_key_usage(&wish, MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN);
  size = mbedtls_x509write_crt_der(&wish, out->bytes, sizeof out->bytes, mbedtls_ctr_drbg_random, &a->random);
  mbedtls_x509write_crt_free(&wish);
  out->size = size > 0 ? (size_t)size : 0;
  return size > 0;
}

static inline void authority_free(struct authority* a) {
  mbedtls_pk_free(&a->key);
  mbedtls_ctr_drbg_free(&a->random);
  mbedtls_entropy_free(&a->entropy);
}

/* 0: it failed. authority_free() either way. */
static inline int authority_init(struct authority* a) {
  memset(a, 0, sizeof *a);
  mbedtls_entropy_init(&a->entropy);
  mbedtls_ctr_drbg_init(&a->random);
  mbedtls_pk_init(&a->key);
  return mbedtls_ctr_drbg_seed(&a->random, mbedtls_entropy_func, &a->entropy, NULL, 0) == 0 &&
         mbedtls_pk_setup(&a->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) == 0 &&
         mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(a->key), mbedtls_ctr_drbg_random, &a->random) ==
             0 &&
         authority_certify(a, &a->key, "O=Root", &a->root);
}

/* 1: the request is signed with the key it names: mbedTLS parses it, but does not verify it. */
static inline int authority_verify(mbedtls_x509_csr* csr) {
#ifdef FLAW_BELIEVES_ANY_REQUEST
  (void)csr;
  return 1;
#else
  unsigned char hash[MBEDTLS_MD_MAX_SIZE];
  const mbedtls_md_info_t* md = mbedtls_md_info_from_type(csr->sig_md);
  return md != NULL && mbedtls_md(md, csr->cri.p, csr->cri.len, hash) == 0 &&
         mbedtls_pk_verify(&csr->pk, csr->sig_md, hash, mbedtls_md_get_size(md), csr->sig.p, csr->sig.len) == 0;
#endif
}

/* A CA for the key of a request whose signature is good. 0: the request is bad. */
static inline int authority_mint(struct authority* a, limpet_bytes request, struct der* out) {
  mbedtls_x509_csr csr;
  int good;
  mbedtls_x509_csr_init(&csr);
  good = request.len > 0 && mbedtls_x509_csr_parse_der(&csr, request.ptr, request.len) == 0 && authority_verify(&csr) &&
         authority_certify(a, &csr.pk, "O=Minted", out);
  mbedtls_x509_csr_free(&csr);
  return good;
}
#endif
