#include "seal/handshake.h"

#include <netinet/in.h>

#include "packet/packet.h"

#define UDP_HEADER 8u
#define PROBE 0x12u        /* first octet: Map-Request with P as its only flag */
#define PROBE_ANSWER 0x28u /* Map-Reply with P as its only flag */
#define LISP_MIN 12u       /* flags, and a nonce */

bool lm_handshake_is(const uint8_t *packet, const struct lm_inner *inner)
{
    if (inner->protocol != IPPROTO_UDP || inner->is_fragment || !inner->has_ports ||
        inner->source_port != LM_PORT_CONTROL || inner->destination_port != LM_PORT_CONTROL ||
        inner->length < inner->header + UDP_HEADER + LISP_MIN)
        return false;
    uint8_t first = packet[inner->header + UDP_HEADER];
    return first == PROBE || first == PROBE_ANSWER;
}
