/*
 * What a relay says about sealed packets that go from EID to EID: too long for the way behind it. The relay cannot see
 * the packet inside, and the host knows nothing of the one around it. So the error ends here: it makes the room for
 * packets of that peer smaller, and the next one that does not fit is answered to the host (engine/send.c). The error
 * comes in clear, from anybody. It counts when it quotes a packet that was sealed here not long ago.
 */
#ifndef LM_NESTED_MTU_H
#define LM_NESTED_MTU_H

#include "packet/packet.h"
#include "seal/peers.h"

#define LM_NESTED_MTU_MIN 576u                                  /* ours: less helps nobody but who forges it */
#define LM_NESTED_MTU_NS (UINT64_C(600) * UINT64_C(1000000000)) /* then longer ones are tried again (RFC 8899, 5.1.1) */

enum lm_nested_mtu_verdict { LM_NESTED_OTHER, LM_NESTED_LEARNED, LM_NESTED_IGNORED };
/* OTHER: the inner packet is no such error. Else it is none for the host. */
enum lm_nested_mtu_verdict lm_nested_mtu_take(const struct lm_peers *peers, const uint8_t *packet,
                                              const struct lm_inner *inner, uint64_t now);
/* The longest packet from EID to EID that a relay of the session's peer passes on; UINT32_MAX: nothing is known. */
uint32_t lm_nested_mtu_of(const struct lm_session *session, uint64_t now);

#endif
