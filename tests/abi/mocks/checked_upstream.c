/* SPDX-License-Identifier: Apache-2.0
 *
 * An upstream authority for plugin-check: a CA in memory, whose root each instance makes anew. See checked.h.
 */
#include "checked.h"

#include "authority.h"

#define MAX_WATCHES 8

struct watch {
  limpet_op* op; /* NULL: the place is free */
  limpet_done done;
};
struct own {
  struct authority ca;
  struct watch watches[MAX_WATCHES];
};

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  struct own* own = calloc(1, sizeof *own);
  if (own == NULL) return LIMPET_RESOURCE_EXHAUSTED;
  *out = authority_init(&own->ca) ? new_instance(host) : NULL;
  if (*out == NULL) {
    authority_free(&own->ca);
    free(own);
    return LIMPET_INTERNAL;
  }
  (*out)->own = own;
  return LIMPET_OK;
}
static void destroy(limpet_instance* self) {
  struct own* own = self->own;
  authority_free(&own->ca);
  free(own);
  free(self);
}

static void cancel(limpet_instance* self, limpet_op* op) {
  struct own* own = self->own;
  const limpet_status over = status_of(LIMPET_CANCELLED, "cancelled");
  size_t i;
  for (i = 0; i < MAX_WATCHES; ++i) {
    if (own->watches[i].op != op) continue;
    own->watches[i].op = NULL;
    own->watches[i].done(op, &over);
  }
}

static void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr_der, uint32_t ttl_s,
                    limpet_minted_done done) {
  struct own* own = self->own;
  struct authority* ca = &own->ca;
  const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "this is no request signed with its own key");
  const limpet_bytes_list none = {NULL, 0};
  const limpet_bytes root = der_bytes(&ca->root);
  limpet_bytes first;
  struct der made;
  int good;
  (void)ttl_s;
#ifdef FLAW_SIGNS_WITH_ANOTHER_KEY
  struct authority another;
  ca = authority_init(&another) ? &another : NULL;
#endif
  good = ca != NULL && authority_mint(ca, csr_der, &made);
#ifdef FLAW_SIGNS_WITH_ANOTHER_KEY
  authority_free(&another);
#endif
  if (!good) {
    done(op, &bad, none, none);
    return;
  }
  first = der_bytes(&made);
  done(op, NULL, (limpet_bytes_list){&first, 1}, (limpet_bytes_list){&root, 1});
}

static void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
#ifdef FLAW_JWT_KEYS_ARE_INTERNAL
  const limpet_status none = status_of(LIMPET_INTERNAL, "this authority has no JWT keys");
#else
  const limpet_status none = status_of(LIMPET_UNIMPLEMENTED, "this authority has no JWT keys");
#endif
  (void)self;
  (void)key;
  done(op, &none);
}

static void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  struct own* own = self->own;
  const limpet_status full = status_of(LIMPET_RESOURCE_EXHAUSTED, "8 watch already");
  const limpet_bytes root = der_bytes(&own->ca.root);
  limpet_bundle bundle;
  size_t i;
  memset(&bundle, 0, sizeof bundle);
  bundle.size = sizeof bundle;
  bundle.x509_roots_der.items = &root;
  bundle.x509_roots_der.count = 1;
  for (i = 0; i < MAX_WATCHES && own->watches[i].op != NULL; ++i) continue;
  if (i == MAX_WATCHES) {
    done(op, &full);
    return;
  }
  own->watches[i].op = op;
  own->watches[i].done = done;
#ifndef FLAW_WATCH_TELLS_NOTHING
  update(op, &bundle);
#endif
}

static const limpet_upstream_authority table = {sizeof table, 0, mint_ca, publish_jwt_key, watch_bundle};
static const limpet_component component = {
    sizeof component, 0, LIMPET_UPSTREAM_AUTHORITY, "mock", create, destroy, checked_configure, cancel, &table};

CHECKED_PLUGIN(&component)
