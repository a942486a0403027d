/*
 * Handles "too big" errors of a relay about sealed packets from EID to EID. The relay cannot see the inner packet, and
 * the host does not know the outer one. So the error ends here: it lowers the limit for packets of that peer, and the
 * next packet that does not fit causes an error to the host (engine/send.c). The error comes in clear and can be
 * forged, so it counts only if it quotes a packet that was sealed here recently.
 */
#ifndef LM_NESTED_MTU_H
#define LM_NESTED_MTU_H

#include "packet/packet.h"
#include "seal/peers.h"

#define LM_NESTED_MTU_MIN 576u                                  /* ours: a smaller value would only help an attacker */
#define LM_NESTED_MTU_NS (UINT64_C(600) * UINT64_C(1000000000)) /* then larger ones are tried again (RFC 8899, 5.1.1) */

enum lm_nested_mtu_verdict { LM_NESTED_OTHER, LM_NESTED_LEARNED, LM_NESTED_IGNORED };
/*
 * True for a packet that a relay must forward although its path MTU is smaller. Its sender cannot make it smaller: it
 * may hold an IPv6 packet of 1280 octets, which every IPv6 path takes.
 */
bool lm_nested_mtu_must_pass(const uint8_t *packet, size_t length);
/* Handles an inner packet that may be such an error. OTHER: it is none. Otherwise it must not reach the host. */
enum lm_nested_mtu_verdict lm_nested_mtu_take(const struct lm_peers *peers, const uint8_t *packet,
                                              const struct lm_inner *inner, uint64_t now);
/*
 * Returns the largest packet from EID to EID that a relay of the peer of the session forwards, in octets; UINT32_MAX:
 * unknown.
 */
uint32_t lm_nested_mtu_of(const struct lm_session *session, uint64_t now);

#endif
