/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole workload attestor: it tells the name a process gives itself, as selector "comm:name:<name>". README.md beside
 * limpet_plugin.h walks through it.
 */
#include <errno.h>
#include <limpet_plugin.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One configured attestor. Nothing is global: two instances may live side by side. */
struct limpet_instance {
  const limpet_host* host;
};

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = calloc(1, sizeof(limpet_instance));
  if (*out == NULL) return LIMPET_RESOURCE_EXHAUSTED;
  (*out)->host = host;
  return LIMPET_OK;
}

static void destroy(limpet_instance* self) { free(self); }

/* No keys of its own, so only an empty object will do; a plugin with some parses config->json here. What it does not
 * know is an error, so that a misspelt key is noticed. With config->dry_run set it checks and keeps what it has. */
static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  static const char message[] = "the configuration must be empty: there are no keys";
  const limpet_status status = {sizeof status, LIMPET_INVALID_ARGUMENT, {message, sizeof message - 1}, 0, 0};
  (void)self;
  done(op, config->json.len == 2 && memcmp(config->json.ptr, "{}", 2) == 0 ? NULL : &status);
}

static void refuse(limpet_op* op, limpet_code code, const char* message, limpet_selectors_done done) {
  limpet_status status = {sizeof status, code, {message, strlen(message)}, 0, 0};
  limpet_str_list none = {NULL, 0};
  done(op, &status, none);
}

/* A pidfd becomes readable when its process ends. */
static int has_exited(int32_t pidfd) {
  struct pollfd p = {pidfd, POLLIN, 0};
  return pidfd >= 0 && poll(&p, 1, 0) != 0;
}

static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  char path[64], selector[64] = "name:";
  limpet_str item;
  limpet_str_list list = {&item, 1}, none = {NULL, 0};
  FILE* file;
  (void)self;
  if (w->reference_type.len > 0) { /* not named by a pid: not our kind, and that is no error */
    done(op, NULL, none);
    return;
  }
  snprintf(path, sizeof path, "/proc/%d/comm", (int)w->pid);
  file = fopen(path, "re");
  if (file == NULL) {
    refuse(op, errno == ENOENT ? LIMPET_NOT_FOUND : LIMPET_PERMISSION_DENIED, "the process cannot be read", done);
    return;
  }
  if (has_exited(w->pidfd) || fgets(selector + 5, (int)sizeof selector - 5, file) == NULL) {
    fclose(file);
    refuse(op, LIMPET_NOT_FOUND, "the process has exited", done); /* the number may be another's by now */
    return;
  }
  fclose(file);
  item.ptr = selector; /* borrowed by the host until done returns: a local will do */
  item.len = strcspn(selector, "\n");
  done(op, NULL, list);
}

static const limpet_workload_attestor table = {sizeof table, 0, attest};
static const limpet_component component = {
    sizeof component, 0, LIMPET_WORKLOAD_ATTESTOR, "comm", create, destroy, configure, NULL, &table};
static const limpet_component* const components[] = {&component, NULL};
static const limpet_plugin plugin = {sizeof plugin, LIMPET_ABI_MAJOR, 0,         0, "org.example.comm",
                                     "1.0.0",       "Apache-2.0",     components};

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor;
  return host_major == LIMPET_ABI_MAJOR ? &plugin : NULL;
}
