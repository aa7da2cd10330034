/* SPDX-License-Identifier: Apache-2.0
 *
 * A sealer whose device is a file, for tests: data = { device = "/path" }. The file holds the device's name, of at most
 * 32 bytes; a blob is opened by the device of the same name only. No file: the device does not answer. It hides
 * nothing. MOCK_SEALER_SHORT_TABLE and MOCK_SEALER_MISSING_FUNCTION break its table, for the loader's tests.
 */
#include <limpet_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct limpet_instance {
  char path[256];
};
struct device {
  size_t len;
  char name[32];
};

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  (void)host;
  *out = calloc(1, sizeof(limpet_instance));
  return *out != NULL ? LIMPET_OK : LIMPET_RESOURCE_EXHAUSTED;
}
static void destroy(limpet_instance* self) { free(self); }

static limpet_status status_of(limpet_code code, const char* message) {
  const limpet_status status = {sizeof(limpet_status), code, {message, strlen(message)}, 0, 0};
  return status;
}

/* {"device":"/path"} and nothing else. */
static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  static const char before[] = "{\"device\":\"";
  const size_t start = sizeof before - 1;
  const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "data must be { device = \"/path\" }");
  if (config->json.len < start + 3 || config->json.len - start - 2 >= sizeof self->path) return done(op, &bad);
  if (memcmp(config->json.ptr, before, start) != 0) return done(op, &bad);
  if (config->dry_run == 0) {
    memset(self->path, 0, sizeof self->path);
    memcpy(self->path, config->json.ptr + start, config->json.len - start - 2);
  }
  done(op, NULL);
}

static int find_device(const limpet_instance* self, struct device* out) {
  FILE* file = fopen(self->path, "rb");
  if (file == NULL) return 0;
  out->len = fread(out->name, 1, sizeof out->name, file);
  fclose(file);
  return out->len > 0;
}

/* blob: length of the name, name, length of the context, context, the secret with every bit flipped */
static void seal(limpet_instance* self, limpet_op* op, limpet_bytes plain, limpet_bytes context,
                 limpet_bytes_done done) {
  struct device device;
  uint8_t blob[2 + 32 + 64 + 4096];
  const limpet_bytes none = {NULL, 0};
  const limpet_status away = status_of(LIMPET_UNAVAILABLE, "the device does not answer");
  limpet_bytes out = {blob, 0};
  size_t i;
  if (!find_device(self, &device)) return done(op, &away, none);
  blob[out.len++] = (uint8_t)device.len;
  memcpy(blob + out.len, device.name, device.len);
  out.len += device.len;
  blob[out.len++] = (uint8_t)context.len;
  for (i = 0; i < context.len; ++i) blob[out.len++] = context.ptr[i];
  for (i = 0; i < plain.len; ++i) blob[out.len++] = (uint8_t)~plain.ptr[i];
  done(op, NULL, out);
}

static void unseal(limpet_instance* self, limpet_op* op, limpet_bytes blob, limpet_bytes context,
                   limpet_bytes_done done) {
  struct device device;
  uint8_t plain[4096];
  const limpet_bytes none = {NULL, 0};
  const limpet_status away = status_of(LIMPET_UNAVAILABLE, "the device does not answer");
  const limpet_status never = status_of(LIMPET_FAILED_PRECONDITION, "another device sealed it");
  limpet_bytes out = {plain, 0};
  size_t at;
  if (!find_device(self, &device)) return done(op, &away, none);
  at = 2 + device.len + context.len;
  if (blob.len <= at || blob.len - at > sizeof plain || blob.ptr[0] != device.len ||
      memcmp(blob.ptr + 1, device.name, device.len) != 0 || blob.ptr[1 + device.len] != context.len ||
      (context.len > 0 && memcmp(blob.ptr + 2 + device.len, context.ptr, context.len) != 0)) {
    return done(op, &never, none);
  }
  for (; at < blob.len; ++at) plain[out.len++] = (uint8_t)~blob.ptr[at];
  done(op, NULL, out);
}

static const limpet_sealer table = {
#ifdef MOCK_SEALER_SHORT_TABLE
    16,
#else
    sizeof(limpet_sealer),
#endif
    0, seal,
#ifdef MOCK_SEALER_MISSING_FUNCTION
    NULL
#else
    unseal
#endif
};
static const limpet_component component = {
    sizeof(limpet_component), LIMPET_BLOCKING, LIMPET_SEALER, "mock", create, destroy, configure, NULL, &table};
static const limpet_component* const components[] = {&component, NULL};
static const limpet_plugin plugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0, 0, "org.example.mock-sealer", "1",
                                     "Apache-2.0",          components};
const limpet_plugin* limpet_plugin_main(uint32_t major, uint32_t minor) {
  (void)minor;
  return major == LIMPET_ABI_MAJOR ? &plugin : NULL;
}
