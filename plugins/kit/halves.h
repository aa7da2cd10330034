// SPDX-License-Identifier: Apache-2.0
#pragma once
// A node attestor has a half for the agent and one for the server. In a binary without the server role the server's
// halves of the built-in ones are left out of their lists, and with that out of the binary; a shared object has both.

#ifdef LIMPET_WITHOUT_SERVER
#define LIMPET_SERVER_HALF(component)
#else
#define LIMPET_SERVER_HALF(component) component,
#endif
