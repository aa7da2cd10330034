/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the mock "moody" share.
 */
#ifndef MOODY_H
#define MOODY_H
#include <errno.h>
#include <limpet_plugin.h>
#include <string.h>

struct limpet_instance {
  const limpet_host* host;
  limpet_op* kept; /* the op of "never", "late", and of services */
  limpet_signature_done kept_done;
  limpet_op* watch;
  limpet_done watch_done;
  unsigned signs;
  char farewell[256];
};
struct limpet_session {
  limpet_instance* owner;
  unsigned rounds;
  char peer[64];
};

static inline limpet_str str(const char* text) {
  const limpet_str s = {text, strlen(text)};
  return s;
}
static inline limpet_status status_of(limpet_code code, const char* text) {
  const limpet_status s = {sizeof(limpet_status), code, str(text), 0, 0};
  return s;
}
static inline int is(limpet_str a, const char* b) { return a.len == strlen(b) && memcmp(a.ptr, b, a.len) == 0; }
static inline const char* after(limpet_str a, const char* prefix) {
  static char rest[256];
  const size_t n = strlen(prefix);
  if (a.len < n || a.len - n >= sizeof rest || memcmp(a.ptr, prefix, n) != 0) return NULL;
  memcpy(rest, a.ptr + n, a.len - n);
  rest[a.len - n] = 0;
  return rest;
}

static inline void reply(limpet_op* op, limpet_signature_done done, const char* text) {
  const limpet_bytes signature = {(const uint8_t*)text, strlen(text)};
  done(op, NULL, signature, str("f"));
}
static inline void reply_errno(limpet_op* op, limpet_signature_done done, int ok) {
  reply(op, done, ok ? "ok" : strerror(errno));
}

/* moody_services.c: calls the service that the key names, which answers the kept op. 0: it names none. */
int moody_services(limpet_instance* self, limpet_str key);
/* moody_probes.c: tries what the key names and replies "ok" or the error. 0: it names nothing of the kind. */
int moody_probes(limpet_op* op, limpet_signature_done done, limpet_str key);

#endif
