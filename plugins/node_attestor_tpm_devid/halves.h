// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two components of this plugin. Static data.

#include <limpet_plugin.h>

namespace limpet::tpm_devid {

extern const limpet_component kAgentHalf;
extern const limpet_component kServerHalf;

}  // namespace limpet::tpm_devid
