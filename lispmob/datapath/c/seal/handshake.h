/* Recognises handshakes through a relay, the only control messages that may travel from EID to EID. */
#ifndef LM_HANDSHAKE_H
#define LM_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

struct lm_inner;

/*
 * True for a whole UDP packet from and to port 4342 with an RLOC-probe or its answer (RFC 9301, 5.2 and 5.4). Such a
 * packet is never sealed and always accepted: it authenticates itself, or the control plane drops it.
 */
bool lm_handshake_is(const uint8_t *packet, const struct lm_inner *inner);

#endif
