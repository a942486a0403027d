/* The messages that keys come from, by way of a relay: from EID to EID, which no other control message may go. */
#ifndef LM_HANDSHAKE_H
#define LM_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

struct lm_inner;

/*
 * True for a whole UDP packet from and to port 4342 with an RLOC-probe or its answer in it (RFC 9301, 5.2 and 5.4). It
 * is never sealed, and taken whatever is asked of others: it proves itself, or the control plane drops it.
 */
bool lm_handshake_is(const uint8_t *packet, const struct lm_inner *inner);

#endif
