/* SPDX-License-Identifier: Apache-2.0
 *
 * Compiled as C11 and as C++ with -Wpadded -Werror: the header stands alone, has no hidden padding, and its structs
 * have the sizes that version 1.0 was published with. Where a size here must change, the change was not an append made
 * with a new minor version, or this file was forgotten.
 */
#include <limpet_plugin.h>

#ifdef __cplusplus
#define SIZE(T, bytes) static_assert(sizeof(void*) != 8 || sizeof(T) == (bytes), #T)
#else
#define SIZE(T, bytes) _Static_assert(sizeof(void*) != 8 || sizeof(T) == (bytes), #T)
#endif

SIZE(limpet_bytes, 16);
SIZE(limpet_str, 16);
SIZE(limpet_bytes_list, 16);
SIZE(limpet_str_list, 16);
SIZE(limpet_field, 32);
SIZE(limpet_status, 32);
SIZE(limpet_host, 48);
SIZE(limpet_timer_service, 24);
SIZE(limpet_poll_service, 24);
SIZE(limpet_grpc_call, 96);
SIZE(limpet_grpc_service, 24);
SIZE(limpet_http_call, 32);
SIZE(limpet_http_reply, 24);
SIZE(limpet_http_service, 24);
SIZE(limpet_agent_info, 40);
SIZE(limpet_agent_store_service, 24);
SIZE(limpet_enrollment, 32);
SIZE(limpet_enrollment_service, 24);
SIZE(limpet_kv_service, 40);
SIZE(limpet_keys_service, 32);
SIZE(limpet_seal_service, 32);
SIZE(limpet_identity, 48);
SIZE(limpet_identity_service, 16);
SIZE(limpet_config, 40);
SIZE(limpet_component, 64);
SIZE(limpet_plugin, 48);
SIZE(limpet_node_attestor_agent, 40);
SIZE(limpet_attempt, 56);
SIZE(limpet_attest_step, 64);
SIZE(limpet_node_attestor_server, 32);
SIZE(limpet_workload, 56);
SIZE(limpet_workload_attestor, 16);
SIZE(limpet_public_key, 56);
SIZE(limpet_sign_request, 64);
SIZE(limpet_key_manager, 40);
SIZE(limpet_sealer, 24);
SIZE(limpet_jwt_key, 48);
SIZE(limpet_bundle, 56);
SIZE(limpet_upstream_authority, 32);
SIZE(limpet_bundle_publisher, 16);
