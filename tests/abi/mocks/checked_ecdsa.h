/* SPDX-License-Identifier: Apache-2.0
 *
 * mbedTLS's own ECDSA for a mock that is linked with it: the linker turns its calls into calls of these two names (see
 * the root meson.build), which the host takes into its own hands, and a mock gives back.
 */
#ifndef CHECKED_ECDSA_H
#define CHECKED_ECDSA_H
#include <mbedtls/ecdsa.h>

#ifdef __cplusplus
extern "C" {
#endif
typedef int (*checked_random)(void*, unsigned char*, size_t);

int __real_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context* ctx, mbedtls_md_type_t md, const unsigned char* hash,
                                         size_t hash_len, unsigned char* sig, size_t sig_size, size_t* sig_len,
                                         checked_random random, void* random_arg);
int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context* ctx, mbedtls_md_type_t md, const unsigned char* hash,
                                         size_t hash_len, unsigned char* sig, size_t sig_size, size_t* sig_len,
                                         checked_random random, void* random_arg);
int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context* ctx, mbedtls_md_type_t md, const unsigned char* hash,
                                         size_t hash_len, unsigned char* sig, size_t sig_size, size_t* sig_len,
                                         checked_random random, void* random_arg) {
  return __real_mbedtls_ecdsa_write_signature(ctx, md, hash, hash_len, sig, sig_size, sig_len, random, random_arg);
}

int __real_mbedtls_ecdsa_read_signature(mbedtls_ecdsa_context* ctx, const unsigned char* hash, size_t hash_len,
                                        const unsigned char* sig, size_t sig_len);
int __wrap_mbedtls_ecdsa_read_signature(mbedtls_ecdsa_context* ctx, const unsigned char* hash, size_t hash_len,
                                        const unsigned char* sig, size_t sig_len);
int __wrap_mbedtls_ecdsa_read_signature(mbedtls_ecdsa_context* ctx, const unsigned char* hash, size_t hash_len,
                                        const unsigned char* sig, size_t sig_len) {
  return __real_mbedtls_ecdsa_read_signature(ctx, hash, hash_len, sig, sig_len);
}
#ifdef __cplusplus
}
#endif
#endif
