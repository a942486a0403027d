#include "seal/nested_mtu.h"

#include <netinet/in.h>

#include "base/rules.h"

#define ICMP_HEADER 8u
#define UDP_HEADER 8u
#define V6_HEADER 40u
#define V6_MTU_MIN 1280u                                                  /* RFC 8200 section 5 */
#define MOST_AROUND (V6_HEADER + UDP_HEADER + LM_SEAL_HEAD + LM_AEAD_TAG) /* octets around the packet that is sealed */

/* Returns the MTU in an ICMP error; 0: the packet is no "too big". */
static uint32_t named_mtu(const uint8_t *icmp, const struct lm_inner *inner)
{
    if (inner->is_fragment || inner->length < inner->header + ICMP_HEADER)
        return 0;
    if (inner->version == 4 && inner->protocol == IPPROTO_ICMP && icmp[0] == 3 && icmp[1] == 4)
        return lm_get16(icmp + 6);
    if (inner->version == 6 && inner->protocol == IPPROTO_ICMPV6 && icmp[0] == 2 && icmp[1] == 0)
        return lm_get32(icmp + 4);
    return 0;
}

/* Returns the LISP header of a sealed datagram between EIDs in the quote; NULL: it is something else, or too short. */
static const uint8_t *sealed_in(const uint8_t *quote, size_t length)
{
    uint8_t version = length ? quote[0] >> 4 : 0;
    size_t header = version == 4 ? (size_t)(quote[0] & 15) * 4 : 40;
    if ((version != 4 && version != 6) || header < 20 || length < header + UDP_HEADER + LM_SEAL_HEAD)
        return NULL;
    const uint8_t *udp = quote + header, *lisp = udp + UDP_HEADER;
    bool is_data = quote[version == 4 ? 9 : 6] == IPPROTO_UDP && lm_get16(udp) == LM_PORT_DATA &&
                   lm_get16(udp + 2) == LM_PORT_DATA;
    return is_data && (lisp[0] & LM_FLAG_KK) == LM_SEAL_KK ? lisp : NULL;
}

bool lm_nested_mtu_must_pass(const uint8_t *packet, size_t length)
{
    return length <= V6_MTU_MIN + MOST_AROUND && sealed_in(packet, length) != NULL;
}

enum lm_nested_mtu_verdict lm_nested_mtu_take(const struct lm_peers *peers, const uint8_t *packet,
                                              const struct lm_inner *inner, uint64_t now)
{
    if (inner->protocol != IPPROTO_ICMP && inner->protocol != IPPROTO_ICMPV6)
        return LM_NESTED_OTHER;
    const uint8_t *icmp = packet + inner->header;
    uint32_t mtu = named_mtu(icmp, inner);
    const uint8_t *sealed = mtu ? sealed_in(icmp + ICMP_HEADER, inner->length - inner->header - ICMP_HEADER) : NULL;
    if (!sealed)
        return LM_NESTED_OTHER;
    const struct lm_session *session = lm_peers_sent_by(peers, lm_session_index(sealed), lm_session_counter(sealed));
    struct lm_peer *peer = session ? lm_peers_find(peers, session->peer) : NULL;
    if (!peer) /* forged, or for a relay to forward */
        return LM_NESTED_OTHER;
    if (mtu < LM_NESTED_MTU_MIN)
        return LM_NESTED_IGNORED;
    for (size_t i = 0; i < LM_SLOTS; i++) {
        struct lm_session *each = atomic_load(&peer->slots[i]);
        if (!each)
            continue;
        atomic_store_explicit(&each->nested_mtu, mtu, memory_order_relaxed);
        atomic_store_explicit(&each->nested_until, now + LM_NESTED_MTU_NS, memory_order_release);
    }
    return LM_NESTED_LEARNED;
}

uint32_t lm_nested_mtu_of(const struct lm_session *session, uint64_t now)
{
    if (now >= atomic_load_explicit(&session->nested_until, memory_order_acquire))
        return UINT32_MAX;
    return atomic_load_explicit(&session->nested_mtu, memory_order_relaxed);
}
