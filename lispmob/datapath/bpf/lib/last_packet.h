/* Keeps the last TCP packet of a flow, as liveness/last_packet.c does for those that the threads send. */
#ifndef LM_BPF_LAST_PACKET_H
#define LM_BPF_LAST_PACKET_H

#include "lib/out_flow.h"

#define LEAST 40u /* octets: headers of IPv4 and TCP */

/* Copies the path of the packet from the outer header of its flow. */
static __always_inline void note_way(struct lm_last_packet *kept, const struct out_flow *flow)
{
    __builtin_memset(&kept->from, 0, sizeof kept->from);
    __builtin_memset(&kept->to, 0, sizeof kept->to);
    if (flow->is_v4) {
        kept->from.family = kept->to.family = 4;
        __builtin_memcpy(kept->from.octets, flow->head + 12, 4);
        __builtin_memcpy(kept->to.octets, flow->head + 16, 4);
        kept->port = get16(flow->head + 22);
    } else {
        kept->from.family = kept->to.family = 6;
        __builtin_memcpy(kept->from.octets, flow->head + 8, 16);
        __builtin_memcpy(kept->to.octets, flow->head + 24, 16);
        kept->port = get16(flow->head + 42);
    }
}

static __noinline int keep_last(struct __sk_buff *skb, const struct out_flow *flow, __u32 length, __u64 now)
{
    __u32 place = lm_last_packet_place(flow->hash);
    struct lm_last_packet *kept = bpf_map_lookup_elem(&last_packets, &place);
    if (!kept || length < LEAST || (kept->flow == flow->hash && now < kept->at + LM_LAST_EVERY_NS))
        return 0;
    __u32 turn = kept->turn;
    if ((turn & 1) || __sync_val_compare_and_swap(&kept->turn, turn, turn + 1) != turn)
        return 0;
    if (length > LM_LAST_OCTETS)
        length = LM_LAST_OCTETS;
    kept->at = bpf_skb_load_bytes(skb, 0, kept->packet, length) ? 0 : now;
    kept->length = length;
    kept->flow = flow->hash;
    kept->lane = (__s32)flow->lane;
    note_way(kept, flow);
    __sync_fetch_and_add(&kept->turn, 1); /* even: a reader finds a complete packet */
    return 0;
}

#endif
