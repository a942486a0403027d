/* Copies ECN, DSCP and TTL between the inner and the outer header (RFC 9300 section 5.3). */
#ifndef LM_CARRY_H
#define LM_CARRY_H

#include "lib/parse.h"

/* Computes TOS and TTL of the inner packet, as lm_packet_strip does; false: the packet is dropped. */
static __always_inline bool carry(const struct lm_shared_state *s, const struct arrival *a, struct lm_carried *carried)
{
    *carried = lm_rules_carry(a->inner.tos, a->inner.ttl, a->outer.tos, a->outer.ttl, s->copy_dscp);
    return carried->ecn != LM_ECN_DROPS && carried->ttl != 0;
}

#define CARRIED_V4 12u /* octets at the start of an inner packet that these fields change */
#define CARRIED_V6 8u

/* Writes the start of the packet with these fields into `head`. The checksum of an IPv4 header is computed again. */
static __always_inline void write_carried(__u8 head[CARRIED_V4], bool is_v4, const struct lm_carried *carried,
                                          const __u8 *packet)
{
    if (is_v4) {
        __u64 sum = 0;
        __builtin_memcpy(head, packet, CARRIED_V4);
        head[1] = carried->tos;
        head[8] = carried->ttl;
        head[10] = head[11] = 0;
        for (__u32 i = 0; i < CARRIED_V4; i += 2)
            sum += (__u16)(head[i] | head[i + 1] << 8);
        for (int i = CARRIED_V4; i < 20; i += 2)
            sum += (__u16)(packet[i] | packet[i + 1] << 8);
        __u16 whole = (__u16)~fold(sum);
        head[10] = (__u8)whole;
        head[11] = (__u8)(whole >> 8);
    } else {
        __builtin_memcpy(head, packet, CARRIED_V6);
        head[0] = (__u8)(0x60 | carried->tos >> 4);
        head[1] = (__u8)((head[1] & 0x0f) | carried->tos << 4);
        head[7] = carried->ttl;
    }
}

/* Stores `head` in the packet; false: no memory, and nothing has changed. */
static __always_inline bool store_carried(struct __sk_buff *skb, bool is_v4, const __u8 head[CARRIED_V4], __u32 offset)
{
    return is_v4 ? bpf_skb_store_bytes(skb, offset, head, CARRIED_V4, BPF_F_RECOMPUTE_CSUM) == 0
                 : bpf_skb_store_bytes(skb, offset, head, CARRIED_V6, BPF_F_RECOMPUTE_CSUM) == 0;
}

#endif
