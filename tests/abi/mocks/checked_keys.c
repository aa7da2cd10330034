/* SPDX-License-Identifier: Apache-2.0
 *
 * A key manager for plugin-check: EC P-256 keys in memory. See checked.h.
 */
#include "checked.h"

#include "checked_ecdsa.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>

#define MAX_KEYS 32
#define MAX_ID 64

struct key {
  char id[MAX_ID];
  char fingerprint[32];
  unsigned char spki[256];
  size_t spki_len;
  mbedtls_pk_context pk;
};
struct store {
  mbedtls_entropy_context entropy;
  mbedtls_ctr_drbg_context random;
  struct key keys[MAX_KEYS];
  size_t count;
  unsigned made;
};

/* A new key under an id that was checked; another one's place is taken, or there is room. */
static void make_key(struct store* s, struct key* k, const char* id, size_t id_len) {
  int length;
  memmove(k->id, id, id_len);
  k->id[id_len] = 0;
  mbedtls_pk_init(&k->pk);
  mbedtls_pk_setup(&k->pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
  mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(k->pk), mbedtls_ctr_drbg_random, &s->random);
  length = mbedtls_pk_write_pubkey_der(&k->pk, k->spki, sizeof k->spki);
  k->spki_len = length > 0 ? (size_t)length : 0;
#ifndef FLAW_SAME_FINGERPRINT
  ++s->made;
#endif
  snprintf(k->fingerprint, sizeof k->fingerprint, "key-%u", s->made);
}

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  struct store* s = calloc(1, sizeof *s);
  *out = new_instance(host);
  if (s == NULL || *out == NULL) return LIMPET_RESOURCE_EXHAUSTED;
  mbedtls_entropy_init(&s->entropy);
  mbedtls_ctr_drbg_init(&s->random);
  if (mbedtls_ctr_drbg_seed(&s->random, mbedtls_entropy_func, &s->entropy, NULL, 0) != 0) return LIMPET_INTERNAL;
  (*out)->own = s;
#ifdef FLAW_ANOTHER_KEY_AFTER_RESTART
  make_key(s, &s->keys[s->count++], "kept", 4);
#endif
  return LIMPET_OK;
}

static void destroy(limpet_instance* self) {
  struct store* s = self->own;
  size_t i;
  for (i = 0; i < s->count; ++i) mbedtls_pk_free(&s->keys[i].pk);
  mbedtls_ctr_drbg_free(&s->random);
  mbedtls_entropy_free(&s->entropy);
  free(s);
  free(self);
}

static struct key* find(struct store* s, limpet_str id) {
  size_t i;
  for (i = 0; i < s->count; ++i) {
    if (id.len == strlen(s->keys[i].id) && memcmp(id.ptr, s->keys[i].id, id.len) == 0) return &s->keys[i];
  }
  return NULL;
}

static limpet_public_key shown(const struct key* k) {
  limpet_public_key out;
  memset(&out, 0, sizeof out);
  out.size = sizeof out;
  out.type = LIMPET_KEY_EC_P256;
  out.id.ptr = k->id;
  out.id.len = strlen(k->id);
  out.spki_der.ptr = k->spki + sizeof k->spki - k->spki_len; /* mbedTLS writes at the end */
  out.spki_der.len = k->spki_len;
  out.fingerprint.ptr = k->fingerprint;
  out.fingerprint.len = strlen(k->fingerprint);
  return out;
}

static void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  struct store* s = self->own;
  const limpet_status unknown = status_of(LIMPET_UNIMPLEMENTED, "only ec-p256 is known");
  const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "the id has not 1 to 63 bytes");
  const limpet_status full = status_of(LIMPET_RESOURCE_EXHAUSTED, "32 keys are there already");
  struct key* k;
  limpet_public_key out;
#ifdef FLAW_MAKES_ANY_TYPE
  if (type > 4) type = LIMPET_KEY_EC_P256;
#endif
  if (type != LIMPET_KEY_EC_P256) {
    done(op, &unknown, NULL);
    return;
  }
  if (id.len == 0 || id.len >= MAX_ID || memchr(id.ptr, 0, id.len) != NULL) {
    done(op, &bad, NULL);
    return;
  }
  k = find(s, id);
  if (k == NULL && s->count == MAX_KEYS) {
    done(op, &full, NULL);
    return;
  }
  if (k != NULL) {
    mbedtls_pk_free(&k->pk);
  } else {
    k = &s->keys[s->count++];
  }
  make_key(s, k, id.ptr, id.len);
  out = shown(k);
  done(op, NULL, &out);
}

static void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) {
  struct store* s = self->own;
  limpet_public_key shapes[MAX_KEYS];
  const limpet_public_key* pointers[MAX_KEYS];
  size_t i;
  for (i = 0; i < s->count; ++i) {
    shapes[i] = shown(&s->keys[i]);
    pointers[i] = &shapes[i];
  }
#ifdef FLAW_LISTS_NOTHING
  i = 0;
#endif
  done(op, NULL, pointers, i);
}

static void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* r, limpet_signature_done done) {
  struct store* s = self->own;
#ifdef FLAW_UNKNOWN_KEY_IS_INTERNAL
  const limpet_status missing = status_of(LIMPET_INTERNAL, "no such key");
#else
  const limpet_status missing = status_of(LIMPET_NOT_FOUND, "no such key");
#endif
  const limpet_status bad =
      status_of(LIMPET_INVALID_ARGUMENT, "only digests of SHA-256, SHA-384 and SHA-512 are signed");
  const limpet_str nothing = {NULL, 0};
  const limpet_bytes none = {NULL, 0};
  static const size_t lengths[] = {32, 48, 64};
  unsigned char digest[64] = {0}, signature[MBEDTLS_ECDSA_MAX_LEN];
  struct key* k = find(s, r->key_id);
  limpet_bytes out;
  limpet_public_key whose;
  size_t size = 0;
  if (k == NULL) {
    done(op, &missing, none, nothing);
    return;
  }
#ifdef FLAW_SIGNS_ANY_DIGEST
  if (r->hash < 5 || r->hash > 7 || r->digest.len > sizeof digest || r->pss_salt_len != -1) {
#else
  if (r->hash < 5 || r->hash > 7 || r->digest.len != lengths[r->hash - 5] || r->pss_salt_len != -1) {
#endif
    done(op, &bad, none, nothing);
    return;
  }
  if (r->digest.len > 0) memcpy(digest, r->digest.ptr, r->digest.len);
#ifdef FLAW_WRONG_SIGNATURE
  digest[0] ^= 1;
#endif
  mbedtls_pk_sign(&k->pk,
                  (mbedtls_md_type_t)(r->hash == 5   ? MBEDTLS_MD_SHA256
                                      : r->hash == 6 ? MBEDTLS_MD_SHA384
                                                     : MBEDTLS_MD_SHA512),
                  digest, lengths[r->hash - 5], signature, sizeof signature, &size, mbedtls_ctr_drbg_random,
                  &s->random);
  out.ptr = signature;
  out.len = size;
  whose = shown(k);
  done(op, NULL, out, whose.fingerprint);
}

static void remove_key(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  struct store* s = self->own;
  const limpet_status missing = status_of(LIMPET_NOT_FOUND, "no such key");
  struct key* k = find(s, id);
  if (k == NULL) {
    done(op, &missing);
    return;
  }
#ifndef FLAW_REMOVES_NOTHING
  mbedtls_pk_free(&k->pk);
  *k = s->keys[--s->count];
#endif
  done(op, NULL);
}

static const limpet_key_manager table = {
    sizeof table, 0, generate, list, sign,
#ifdef FLAW_UNKNOWN_KEY_IS_INTERNAL
    NULL /* nothing can be removed: that would be the same flaw seen twice */
#else
    remove_key
#endif
};
static const limpet_component component = {
    sizeof component, LIMPET_BLOCKING, LIMPET_KEY_MANAGER, "mock", create, destroy, checked_configure, NULL, &table};

CHECKED_PLUGIN(&component)
