/*
 * The rules that both tiers share. The threads and the BPF programs include this file, so both compilers compile it.
 *
 * It has only integers and inline functions, without libc, as the verifier requires. Other shared parts: which
 * addresses may be EIDs (address_class.h), the choice by weight (draw.h), the hash of a flow (siphash.h), the maps
 * (bpf/shared.h).
 */
#ifndef LM_RULES_H
#define LM_RULES_H

#include "base/address_class.h"
#include "base/draw.h"

#ifdef __bpf__
#include <stdbool.h>

typedef __u8 uint8_t;
typedef __u16 uint16_t;
#endif

/* Numbers of RFC 9300 and RFC 9301 */

#define LM_PORT_DATA 4341
#define LM_PORT_CONTROL 4342
#define LM_PRIORITY_NEVER 255u   /* a locator, or an uplink, of this priority takes no part (RFC 9301 section 5.4) */
#define LM_CONTROL_IID 0xffffffu /* NAT-traversal draft: a control message for the node itself */

/* Header layout, in octets */

#define LM_IPV4_HEADER 20u
#define LM_IPV6_HEADER 40u
#define LM_UDP_HEADER 8u
#define LM_DATA_HEADER 8
#define LM_OUTER_V4 (LM_IPV4_HEADER + LM_UDP_HEADER + LM_DATA_HEADER)
#define LM_OUTER_V6 (LM_IPV6_HEADER + LM_UDP_HEADER + LM_DATA_HEADER)
#define LM_IP_PACKET_MAX 65535u

/* Returns the octets that encapsulation adds to an inner packet. */
LM_INLINE uint32_t lm_rules_outer_octets(bool is_v4)
{
    return is_v4 ? LM_OUTER_V4 : LM_OUTER_V6;
}

/*
 *  0 1 2 3 4 5 6 7 8                                            31
 * |N|L|E|V|I|R|K|K|            Nonce / Map-Version (24)           |
 * |              Instance-ID / Locator-Status-Bits (32)           |
 */
#define LM_FLAG_N 0x80
#define LM_FLAG_L 0x40
#define LM_FLAG_E 0x20
#define LM_FLAG_V 0x10
#define LM_FLAG_I 0x08
#define LM_FLAG_KK 0x03

/* Puts status bits into the second word: all 32, or the lowest 8 beside an Instance-ID (RFC 9300 section 5.3). */
LM_INLINE uint32_t lm_rules_put_status(uint32_t second, bool has_instance_id, uint32_t bits)
{
    return has_instance_id ? (second & 0xffffff00u) | (bits & 0xff) : bits;
}

/* Inner packets: IANA protocol numbers as values, because the two C libraries name different ones */

/* True for TCP, UDP, DCCP, SCTP and UDP-Lite, which have two ports at the start of their header. */
LM_INLINE bool lm_rules_has_ports(uint8_t protocol)
{
    return protocol == 6 || protocol == 17 || protocol == 33 || protocol == 132 || protocol == 136;
}

/*
 * True for an IPv6 extension header whose length is its second octet, in units of 8: hop-by-hop, routing, destination,
 * mobility, HIP, shim6.
 */
LM_INLINE bool lm_rules_is_plain_extension(uint8_t next)
{
    return next == 0 || next == 43 || next == 60 || next == 135 || next == 139 || next == 140;
}

/*
 * True for any header between the IPv6 header and the transport header: those above, fragment and authentication
 * headers.
 */
LM_INLINE bool lm_rules_is_extension(uint8_t next)
{
    return lm_rules_is_plain_extension(next) || next == 44 || next == 51;
}

/*
 * Returns the first word of the hash of a flow. The other words are the addresses. Ports are 0 if the packet has none.
 */
LM_INLINE uint64_t lm_rules_flow_word(uint8_t version, uint8_t protocol, uint16_t source_port,
                                      uint16_t destination_port)
{
    return version | (uint64_t)protocol << 8 | (uint64_t)source_port << 16 | (uint64_t)destination_port << 32;
}

/*
 * Returns the port in the pool of an uplink that a flow leaves from, by the hash of the flow (RFC 9300 section 5.3, for
 * ECMP and LAGs).
 */
LM_INLINE uint32_t lm_rules_pool_place(uint64_t flow, uint32_t pool)
{
    return (uint32_t)(flow * UINT64_C(0x9e3779b97f4a7c15) >> 40) % pool;
}

/* Fields carried between inner and outer header (RFC 9300 section 5.3) */

/* Returns the outer TOS or traffic class: ECN always, DSCP if it is to be copied. */
LM_INLINE uint8_t lm_rules_outer_tos(uint8_t inner_tos, bool copy_dscp)
{
    return copy_dscp ? inner_tos : inner_tos & 3;
}

#define LM_ECN_DROPS 0xff
#define LM_ECN_ODD 0x80

/*
 * RFC 6040 figure 4: a row for each inner ECN field, with an octet for each outer one. The rows are words, because a
 * BPF object has no small tables.
 */
#define LM_ECN_ROW(not_ect, ect1, ect0, ce)                                                                            \
    ((uint32_t)(not_ect) | (uint32_t)(ect1) << 8 | (uint32_t)(ect0) << 16 | (uint32_t)(ce) << 24)
#define LM_ECN_NOT_ECT LM_ECN_ROW(0, LM_ECN_ODD | 0, LM_ECN_ODD | 0, LM_ECN_DROPS)
#define LM_ECN_ECT1 LM_ECN_ROW(1, 1, LM_ECN_ODD | 1, 3)
#define LM_ECN_ECT0 LM_ECN_ROW(2, 1, 2, 3)
#define LM_ECN_CE LM_ECN_ROW(3, LM_ECN_ODD | 3, 3, 3)

LM_INLINE uint8_t lm_rules_merge_ecn(uint8_t inner_tos, uint8_t outer_tos)
{
    uint32_t to_ect = inner_tos & 1 ? LM_ECN_CE : LM_ECN_ECT0, to_rest = inner_tos & 1 ? LM_ECN_ECT1 : LM_ECN_NOT_ECT;
    return (uint8_t)((inner_tos & 2 ? to_ect : to_rest) >> (outer_tos & 3) * 8);
}

/* The carried fields of an inner packet after decapsulation. */
struct lm_carried {
    uint8_t tos, ttl;
    uint8_t ecn; /* LM_ECN_DROPS: drop; with LM_ECN_ODD: deliver, but count it (RFC 6040) */
};

/* Computes the carried fields. The caller drops the packet if `ecn` is LM_ECN_DROPS or `ttl` is 0. */
LM_INLINE struct lm_carried lm_rules_carry(uint8_t inner_tos, uint8_t inner_ttl, uint8_t outer_tos, uint8_t outer_ttl,
                                           bool copy_dscp)
{
    struct lm_carried carried;
    carried.ecn = lm_rules_merge_ecn(inner_tos, outer_tos);
    carried.ttl = outer_ttl < inner_ttl ? outer_ttl : inner_ttl;
    carried.tos = (uint8_t)(((copy_dscp ? outer_tos : inner_tos) & 0xfc) | (carried.ecn & 3));
    return carried;
}

/* Decisions of the control plane */

/* What happens to packets of an entry of the table. */
enum lm_disposition {
    LM_ENCAPSULATE = 0,
    LM_DROP = 1,
    LM_NATIVE = 2,
    LM_MISS = 3,
    LM_PROHIBIT = 4,
    LM_ENCAPSULATE_AND_REPORT = 5,
    LM_DOUBT = 6 /* sent, but the source gets an ICMP error because no locator answers */
};

/* True for a negative entry: data from such an EID shows that the entry is old. */
LM_INLINE bool lm_rules_refuses(uint32_t disposition)
{
    return disposition == LM_DROP || disposition == LM_NATIVE || disposition == LM_PROHIBIT || disposition == LM_DOUBT;
}

/*
 * How inner sources are checked (engine/source.h). LM_CHECK_NOTHING is for engines that are their own peer over
 * loopback.
 */
enum lm_source_check { LM_CHECK_NOTHING = 0, LM_CHECK_OFF = 1, LM_CHECK_LOOSE = 2, LM_CHECK_STRICT = 3 };

/* The kind of an address in the table `near`. */
enum lm_near { LM_NEAR_OWN = 1, LM_NEAR_LINK = 2, LM_NEAR_PROXY = 3 };

/* Unanswered data (liveness/silence.h); times in nanoseconds of one clock that never shows 0 */

#define LM_SILENCE_REPORTED (~0ull)     /* `since`, once the silence was reported */
#define LM_SILENCE_LATELY_NS 200000000u /* two-way traffic: heard within this and four timeouts before */
#define LM_SILENCE_OCTETS 1000u         /* more octets than bare acknowledgements: the sender expects an answer */

/* True for two-way traffic: packets arrived until about the time when the first unanswered one was sent. */
LM_INLINE bool lm_rules_is_flowing(uint64_t since, uint64_t heard, uint64_t quick)
{
    return heard != 0 && since <= heard + 4 * quick + LM_SILENCE_LATELY_NS;
}

#endif
