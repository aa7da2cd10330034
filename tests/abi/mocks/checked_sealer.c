/* SPDX-License-Identifier: Apache-2.0
 *
 * A sealer for plugin-check: a checksum and a mask, which keep no secret from anybody. See checked.h.
 */
#include "checked.h"

#include <fcntl.h>
#include <sys/random.h>

#define SUM 8
#define MAX_PLAIN 4096

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = new_instance(host);
  if (*out == NULL) return LIMPET_RESOURCE_EXHAUSTED;
#ifdef FLAW_FORGETS_AT_RESTART
  if (getrandom(&(*out)->salt, sizeof(*out)->salt, 0) < 0) abort();
#endif
  return LIMPET_OK;
}
static void destroy(limpet_instance* self) { free(self); }

static uint64_t add(uint64_t sum, const uint8_t* bytes, size_t size) {
  size_t i;
  for (i = 0; i < size; ++i) sum = (sum ^ bytes[i]) * 1099511628211u;
  return (sum ^ size) * 1099511628211u;
}
static uint64_t sum_of(const limpet_instance* self, const uint8_t* masked, size_t size, limpet_bytes context) {
  uint64_t sum = 14695981039346656037u ^ self->salt;
#ifndef FLAW_OPENS_THE_ALTERED
  sum = add(sum, masked, size);
#endif
#ifndef FLAW_FORGETS_THE_CONTEXT
  sum = add(sum, context.ptr, context.len);
#endif
  (void)masked;
  (void)size;
  (void)context;
  return sum;
}
static int within_bounds(limpet_bytes plain, limpet_bytes context) {
#ifdef FLAW_NO_BOUNDS
  return plain.len <= 2 * MAX_PLAIN && context.len <= 1000;
#else
  return plain.len >= 1 && plain.len <= MAX_PLAIN && context.len <= 64;
#endif
}

static void seal(limpet_instance* self, limpet_op* op, limpet_bytes plain, limpet_bytes context,
                 limpet_bytes_done done) {
  const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "1 to 4096 bytes, and 64 of context, can be sealed");
  const limpet_status no_file = status_of(LIMPET_INTERNAL, "the file cannot be written");
  const limpet_bytes none = {NULL, 0};
  uint8_t blob[SUM + 2 * MAX_PLAIN];
  limpet_bytes out = {blob, SUM + plain.len};
  uint64_t sum;
  size_t i;
  if (!within_bounds(plain, context)) {
    done(op, &bad, none);
    return;
  }
#ifdef FLAW_KEEPS_A_FILE
  {
    /* where root may write, and a plugin in its sandbox may not */
    static const char path[] = "/run/limpet-checked-sealer";
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
      done(op, &no_file, none);
      return;
    }
    close(fd);
    unlink(path);
  }
#endif
#ifdef FLAW_SHOWS_THE_SECRET
  for (i = 0; i < plain.len; ++i) blob[SUM + i] = plain.ptr[i];
#else
  for (i = 0; i < plain.len; ++i) blob[SUM + i] = (uint8_t)(plain.ptr[i] ^ (0x5a + i));
#endif
  sum = sum_of(self, blob + SUM, plain.len, context);
  memcpy(blob, &sum, SUM);
  done(op, NULL, out);
}

static void unseal(limpet_instance* self, limpet_op* op, limpet_bytes blob, limpet_bytes context,
                   limpet_bytes_done done) {
  const limpet_status bad = status_of(LIMPET_FAILED_PRECONDITION, "this blob was not sealed here");
  const limpet_bytes none = {NULL, 0};
  uint8_t plain[2 * MAX_PLAIN];
  limpet_bytes out = {plain, 0};
  uint64_t sum;
  size_t i;
  if (blob.len < SUM || blob.len > SUM + sizeof plain) {
    done(op, &bad, none);
    return;
  }
  out.len = blob.len - SUM;
  sum = sum_of(self, blob.ptr + SUM, out.len, context);
  if (memcmp(&sum, blob.ptr, SUM) != 0) {
    done(op, &bad, none);
    return;
  }
#ifdef FLAW_SHOWS_THE_SECRET
  for (i = 0; i < out.len; ++i) plain[i] = blob.ptr[SUM + i];
#else
  for (i = 0; i < out.len; ++i) plain[i] = (uint8_t)(blob.ptr[SUM + i] ^ (0x5a + i));
#endif
  done(op, NULL, out);
}

static const limpet_sealer table = {sizeof table, 0, seal, unseal};
static const limpet_component component = {sizeof component,  0,    LIMPET_SEALER, "mock", create, destroy,
                                           checked_configure, NULL, &table};

CHECKED_PLUGIN(&component)
