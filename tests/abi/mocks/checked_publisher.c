/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle publisher for plugin-check: it publishes to nobody. See checked.h.
 */
#include "checked.h"

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = new_instance(host);
  return *out == NULL ? LIMPET_RESOURCE_EXHAUSTED : LIMPET_OK;
}
static void destroy(limpet_instance* self) { free(self); }

static void publish(limpet_instance* self, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
  const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "the bundle has no root");
#ifdef FLAW_PUBLISHES_TWICE_ONLY
  const limpet_status again = status_of(LIMPET_FAILED_PRECONDITION, "it is there already");
  if (self->calls >= 2) {
    done(op, &again);
    return;
  }
#endif
  if (bundle->x509_roots_der.count == 0) {
    done(op, &bad);
    return;
  }
  ++self->calls;
  done(op, NULL);
}

static const limpet_bundle_publisher table = {sizeof table, 0, publish};
static const limpet_component component = {
    sizeof component, 0, LIMPET_BUNDLE_PUBLISHER, "mock", create, destroy, checked_configure, NULL, &table};

CHECKED_PLUGIN(&component)
