#include "packet/icmp.h"

#include <netinet/in.h>

#define HOP_LIMIT 64
#define V4_ERROR_MAX 576u

static bool is_icmp_error(const uint8_t *packet, const struct lm_inner *inner)
{
    uint8_t ours = inner->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    if (inner->protocol != ours)
        return false;
    if (inner->length <= inner->header)
        return true; /* too short to tell the type */
    uint8_t type = packet[inner->header];
    if (inner->version == 6)
        return type < 128 || type == 137; /* errors, and redirects */
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static bool is_allowed(const uint8_t *packet, const struct lm_inner *inner)
{
    return !inner->is_later_fragment && !is_icmp_error(packet, inner) &&
           !lm_address_is_multicast(&inner->destination) && !lm_address_is_broadcast(&inner->destination) &&
           lm_address_may_be_eid(&inner->source);
}

static size_t build_v4(uint8_t *out, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_addr *source,
                       const uint8_t *packet, const struct lm_inner *inner)
{
    static const uint8_t codes[] = {[LM_ICMP_TOO_BIG] = 4, [LM_ICMP_UNREACHABLE] = 1, [LM_ICMP_PROHIBITED] = 13};
    size_t quoted = inner->length < V4_ERROR_MAX - 28 ? inner->length : V4_ERROR_MAX - 28;
    size_t length = 28 + quoted;
    memset(out, 0, 28);
    out[0] = 0x45;
    out[1] = 0xc0; /* internetwork control (RFC 1812 section 4.3.2.5) */
    lm_put16(out + 2, (uint32_t)length);
    out[8] = HOP_LIMIT;
    out[9] = IPPROTO_ICMP;
    memcpy(out + 12, source->octets, 4);
    memcpy(out + 16, inner->source.octets, 4);
    lm_packet_write_ipv4_checksum(out);
    out[20] = 3;
    out[21] = codes[kind];
    if (kind == LM_ICMP_TOO_BIG)
        lm_put16(out + 26, mtu > 0xffff ? 0xffff : mtu);
    memcpy(out + 28, packet, quoted);
    lm_put16(out + 22, lm_packet_checksum(out + 20, 8 + quoted, 0));
    return length;
}

static size_t build_v6(uint8_t *out, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_addr *source,
                       const uint8_t *packet, const struct lm_inner *inner)
{
    size_t quoted = inner->length < LM_ICMP_MAX - 48 ? inner->length : LM_ICMP_MAX - 48;
    memset(out, 0, 48);
    out[0] = 0x60;
    lm_put16(out + 4, (uint32_t)(8 + quoted));
    out[6] = IPPROTO_ICMPV6;
    out[7] = HOP_LIMIT;
    memcpy(out + 8, source->octets, 16);
    memcpy(out + 24, inner->source.octets, 16);
    out[40] = kind == LM_ICMP_TOO_BIG ? 2 : 1;
    out[41] = kind == LM_ICMP_TOO_BIG ? 0 : kind == LM_ICMP_PROHIBITED ? 1 : 3;
    if (kind == LM_ICMP_TOO_BIG)
        lm_put32(out + 44, mtu);
    memcpy(out + 48, packet, quoted);
    uint32_t pseudo = lm_packet_pseudo_sum(source, &inner->source, IPPROTO_ICMPV6, 8 + quoted);
    lm_put16(out + 42, lm_packet_checksum(out + 40, 8 + quoted, pseudo));
    return 48 + quoted;
}

size_t lm_icmp_build(uint8_t *out, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_addr *source,
                     const uint8_t *packet, const struct lm_inner *inner)
{
    if (!is_allowed(packet, inner))
        return 0;
    return (inner->version == 4 ? build_v4 : build_v6)(out, kind, mtu, source, packet, inner);
}
