/*
 * From an uplink to the TUN (tc, ingress of an Ethernet uplink). Only what is clearly good takes the short way: all else
 * goes on to the UDP socket, where the tun tier judges and counts it.
 */
#ifndef LM_DECAP_BPF_H
#define LM_DECAP_BPF_H

#include "encap.bpf.h"

#define DATA_PORT 4341
#define CONTROL_PORT 4342
#define CONTROL_IID 0xffffffu
#define ECN_DROPS 0xff
#define ECN_ODD 0x80

/* Who sends to whom through which tunnel, once it was found to be welcome. */
struct in_flow {
    __u64 words[10]; /* see words_of */
    __u32 generation, is_passed;
    __u32 remote, path, has_relays;
    __u32 queue;
    __u32 status, has_status; /* the Locator-Status-Bits that the tun tier has seen */
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, IN_FLOWS);
    __type(key, __u32);
    __type(value, struct in_flow);
} in_flows SEC(".maps");

struct outer {
    __u32 is_v4, header;
    __u8 tos, ttl;
    __u16 port, source_port, sum;
    __u64 source[2], destination[2];
};

/* The outer IP and UDP header, checked as the kernel would; false: not data for us, or unusual. */
static __always_inline bool read_outer(struct __sk_buff *skb, const __u8 *data, const __u8 *end, struct outer *outer)
{
    __u32 length = skb->len - ETH_HLEN;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        if (data + ETH_HLEN + OUTER_V4 + 20 > end)
            return false;
        data += ETH_HLEN;
        if (data[0] != 0x45 || get16(data + 2) != length || (get16(data + 6) & 0x3fff) || data[9] != IPPROTO_UDP)
            return false;
        __u64 sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += *(const __u16 *)(data + i);
        if (fold(sum) != 0xffff)
            return false;
        outer->is_v4 = 1;
        outer->header = 20;
        outer->tos = data[1];
        outer->ttl = data[8];
        outer->source[0] = get32(data + 12);
        outer->destination[0] = get32(data + 16);
        outer->source[1] = outer->destination[1] = 0;
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        if (data + ETH_HLEN + OUTER_V6 + 20 > end)
            return false;
        data += ETH_HLEN;
        if (data[0] >> 4 != 6 || get16(data + 4) + 40u != length || data[6] != IPPROTO_UDP)
            return false;
        outer->is_v4 = 0;
        outer->header = 40;
        outer->tos = (__u8)(data[0] << 4 | data[1] >> 4);
        outer->ttl = data[7];
        outer->source[0] = get64(data + 8);
        outer->source[1] = get64(data + 16);
        outer->destination[0] = get64(data + 24);
        outer->destination[1] = get64(data + 32);
    } else {
        return false;
    }
    const __u8 *udp = data + outer->header;
    outer->source_port = get16(udp);
    outer->port = get16(udp + 2);
    outer->sum = get16(udp + 6);
    return get16(udp + 4) + outer->header == length;
}

/* RFC 6040 figure 4 in one word for each inner field: the octet of the outer one; as in packet.c. */
static __always_inline __u8 merge_ecn(__u8 inner, __u8 outer)
{
    __u32 row = inner & 2 ? inner & 1 ? 0x03038303 : 0x03020102 : inner & 1 ? 0x03810101 : 0xff808000;
    return (__u8)(row >> (outer & 3) * 8);
}

#define CHECK_OFF 1u /* enum lm_source_check */
#define CHECK_LOOSE 2u
#define NEAR_OWN 1u /* enum lm_near */
#define NEAR_LINK 2u
#define NEAR_PROXY 3u

/* True when the address is one of the set's locators. */
static __always_inline bool holds(__u32 number, const struct lm_shared_address *sender)
{
    struct lm_shared_set *set = bpf_map_lookup_elem(&sets, &number);
    const __u64 *wanted = (const __u64 *)(const void *)sender->octets;
    bool is_there = false;
    if (!set)
        return false;
    for (__u32 i = 0; i < LM_SHARED_LOCATORS; i++) {
        struct lm_shared_locator *one = &set->locators[i];
        if (i >= set->count)
            break;
        const __u64 *a = (const __u64 *)one->address;
        if (one->contender.family == sender->family && a[0] == wanted[0] && a[1] == wanted[1])
            is_there = true;
    }
    return is_there;
}

/* source.c, lm_source_is_local() and lm_source_judge(), as far as they say yes without a limit. */
static __always_inline bool is_proven(struct lm_shared_state *s, const struct in_flow *flow, const struct outer *outer,
                                      const struct lm_shared_address *sender, bool is_v4, __u32 instance_id,
                                      const __u64 source[2])
{
    bool outer_v4 = outer->is_v4;
    if (s->source_check < CHECK_OFF)
        return true;
    struct lm_trie_value *near = find(LM_SPACE_NEAR, outer_v4, 0, outer->source[0], outer->source[1]);
    __u32 kind = near ? near->value : 0;
    if (kind == NEAR_OWN || !lm_may_be_eid(outer_v4, outer->source[0], outer->source[1]) ||
        find(LM_SPACE_RLOCS, outer_v4, 0, outer->source[0], outer->source[1]) ||
        find(LM_SPACE_EIDS, outer_v4, 0, outer->source[0], outer->source[1]))
        return false;
    if (s->source_check < CHECK_LOOSE || flow->has_relays)
        return true;
    near = find(LM_SPACE_NEAR, is_v4, 0, source[0], source[1]);
    if (near && near->value != NEAR_PROXY)
        return false;
    if (kind == NEAR_PROXY)
        return true;
    struct lm_trie_value *entry = find(LM_SPACE_TABLE, is_v4, instance_id, source[0], source[1]);
    return entry && entry->kind == ENCAPSULATES && holds(entry->value, sender);
}

/* True when the ETR's rules hold: inbound.c, judge(), for a node. */
static __always_inline bool is_welcome(struct lm_shared_state *s, struct in_flow *flow, const struct outer *outer,
                                       bool is_v4, __u32 instance_id, const __u64 source[2], const __u64 to[2],
                                       __u32 ifindex)
{
    __u32 key = s->uplinks;
    bool outer_v4 = outer->is_v4;
    flow->remote = LM_NO_REMOTE;
    flow->has_relays = 0;
    flow->queue = 0;
    flow->has_status = 0;
    struct lm_trie_value *own = find(LM_SPACE_EIDS, is_v4, 0, to[0], to[1]);
    struct lm_trie_value *rloc = find(LM_SPACE_RLOCS, outer_v4, 0, outer->destination[0], outer->destination[1]);
    struct lm_shared_uplinks *all = bpf_map_lookup_elem(&uplinks, &key);
    if (!own || own->value != instance_id || !rloc || !all ||
        find(LM_SPACE_EIDS, outer_v4, 0, outer->destination[0], outer->destination[1]))
        return false;
    if (!lm_may_be_eid(is_v4, source[0], source[1]) || find(LM_SPACE_EIDS, is_v4, 0, source[0], source[1]) ||
        find(LM_SPACE_RLOCS, is_v4, 0, source[0], source[1]))
        return false;
    /* The table may say that nobody is there: the tun tier tells the control plane (liveness/destination_report.c). */
    struct lm_trie_value *sent_by = find(LM_SPACE_TABLE, is_v4, instance_id, source[0], source[1]);
    if (sent_by && sent_by->kind != 0 && sent_by->kind != LM_KIND_MISS && sent_by->kind != LM_KIND_TELL)
        return false;
    if (find(LM_SPACE_REFUSED, is_v4, instance_id, source[0], source[1])) /* it has to be sealed: counted there */
        return false;
    __u32 place = rloc->value;
    flow->path = place;
    __u16 ephemeral = 0;
    struct lm_shared_address sender = make_address(outer_v4, outer->source[0], outer->source[1]);
    if (place < LM_SHARED_PATHS) {
        struct lm_shared_path *path = &all->paths[place];
        ephemeral = path->data_port;
        if (path->relays && path->ifindex != ifindex)
            return false;   /* another interface may have the same address: the tun tier tells them apart */
        if (path->relays) { /* behind a NAT nobody but the RTRs has anything to say */
            if (!holds(path->relays, &sender))
                return false;
            flow->has_relays = 1;
        }
    }
    if (outer->port != s->data_port && (outer->port != ephemeral || !ephemeral))
        return false;
    for (__u32 i = 0; i < LM_SHARED_LANES; i++) {
        if (i >= s->lane_count)
            break;
        if (s->lanes[i].ifindex == (__s32)ifindex)
            flow->queue = s->lanes[i].queue;
    }
    __u32 *remote = bpf_map_lookup_elem(&addresses, &sender);
    if (remote)
        flow->remote = *remote;
    return true;
}

struct arrival {
    struct outer outer;
    struct inner inner;
    __u64 words[5]; /* of the inner packet */
    __u32 instance_id, ifindex;
    __u32 offset;             /* of the inner packet, from the Ethernet header */
    __u32 segments, repeated; /* packets that a super-packet stands for, and the octets that each repeats; 1, 0 */
    __u32 flags, second;      /* of the LISP header: its first octet, its second word */
    __u32 run; /* octets of each datagram but the last, when there are several in a row; 0: there is one */
};

/* Reads the LISP header; where the inner packet is, 20 octets at least, or NULL: it is none that is clear. */
static __always_inline const __u8 *read_lisp(struct __sk_buff *skb, const __u8 *data, const __u8 *end,
                                             struct arrival *a)
{
    a->offset = a->outer.is_v4 ? ETH_HLEN + OUTER_V4 : ETH_HLEN + OUTER_V6;
    const __u8 *header = data + (a->outer.is_v4 ? ETH_HLEN + 28 : ETH_HLEN + 48), *packet = header + 8;
    if (packet + 20 > end || (header[0] & ~(LISP_FLAG_I | LISP_FLAG_L)))
        return NULL;
    a->flags = header[0];
    a->second = get32(header + 4);
    a->instance_id = a->flags & LISP_FLAG_I ? a->second >> 8 : 0;
    a->ifindex = skb->ifindex;
    a->segments = 1;
    a->repeated = 0;
    a->run = 0;
    return a->instance_id == CONTROL_IID ? NULL : packet;
}

/* Reads one whole inner packet, which may be a super-packet; false: it is none that is clear. */
static __always_inline bool read_arrival(struct __sk_buff *skb, const __u8 *data, const __u8 *end, struct arrival *a)
{
    const __u8 *packet = read_lisp(skb, data, end, a);
    /* All of the rest has to be one packet: several datagrams in a row (UDP_GRO) are not. */
    if (!packet || !read_inner(packet, end, skb->len - a->offset, &a->inner, a->words))
        return false;
    if (skb->gso_size) {
        if (a->inner.protocol != IPPROTO_TCP || packet + a->inner.header + 20 > end)
            return false;
        a->repeated = a->inner.header + (packet[a->inner.header + 12] >> 4) * 4;
        if (skb->len - a->offset <= a->repeated)
            return false;
        a->segments = (skb->len - a->offset - a->repeated + skb->gso_size - 1) / skb->gso_size;
    }
    return true;
}

__noinline int judge_anew(struct lm_shared_state *s, struct in_flow *flow, const struct arrival *a)
{
    if (!s || !flow || !a)
        return 0;
    bool is_v4 = a->inner.is_v4;
    __u64 source[2] = {is_v4 ? a->words[1] >> 32 : a->words[1], a->words[2]};
    __u64 to[2] = {is_v4 ? (__u32)a->words[1] : a->words[3], a->words[4]};
    flow->generation = s->generation; /* first, as in encap */
    flow->is_passed = !is_welcome(s, flow, &a->outer, is_v4, a->instance_id, source, to, a->ifindex);
    return 0;
}

/* Apart from judge_anew(), since the stack of a program and of what it calls is small. */
__noinline int judge_source(struct lm_shared_state *s, struct in_flow *flow, const struct arrival *a)
{
    if (!s || !flow || !a)
        return 0;
    bool is_v4 = a->inner.is_v4, outer_v4 = a->outer.is_v4;
    __u64 source[2] = {is_v4 ? a->words[1] >> 32 : a->words[1], a->words[2]};
    __u32 none = 0;
    struct lm_shared_heard way = {.source = make_address(outer_v4, a->outer.source[0], a->outer.source[1]),
                                  .local = make_address(outer_v4, a->outer.destination[0], a->outer.destination[1])};
    if (is_proven(s, flow, &a->outer, &way.source, is_v4, a->instance_id, source))
        bpf_map_update_elem(&heard, &way, &none, BPF_ANY);
    else
        flow->is_passed = 1;
    return 0;
}

static __always_inline struct in_flow *in_flow_of(struct lm_shared_state *s, const struct arrival *a)
{
    __u64 words[10] = {(__u64)a->instance_id << 32 | a->ifindex,
                       (__u64)a->outer.port << 16 | a->outer.is_v4 << 1 | a->inner.is_v4,
                       a->outer.source[0],
                       a->outer.source[1],
                       a->outer.destination[0],
                       a->outer.destination[1],
                       a->words[1],
                       a->words[2],
                       a->words[3],
                       a->words[4]};
    __u32 place = (__u32)slot_of(s, words, 10) % IN_FLOWS;
    struct in_flow *flow = bpf_map_lookup_elem(&in_flows, &place);
    if (!flow)
        return flow;
    __u64 differs = flow->generation ^ s->generation;
    for (int i = 0; i < 10; i++)
        differs |= flow->words[i] ^ words[i];
    if (!differs)
        return flow;
    for (int i = 0; i < 10; i++)
        flow->words[i] = words[i];
    judge_anew(s, flow, a);
    if (!flow->is_passed)
        judge_source(s, flow, a);
    return flow;
}

/* The marks and the lifetime that an inner packet leaves the tunnel with. */
struct carried {
    __u8 tos, ttl;
    bool is_odd; /* the ECN fields do not go together (RFC 6040): an ETR counts that */
};

/* TTL, ECN and DSCP as lm_packet_strip carries them inside; false: the packet ends here. */
static __always_inline bool carry(const struct lm_shared_state *s, const struct arrival *a, struct carried *carried)
{
    __u8 ecn = merge_ecn(a->inner.tos, a->outer.tos);
    carried->ttl = a->outer.ttl < a->inner.ttl ? a->outer.ttl : a->inner.ttl;
    carried->tos = (__u8)(((s->copy_dscp ? a->outer.tos : a->inner.tos) & 0xfc) | (ecn & 3));
    carried->is_odd = ecn & ECN_ODD;
    return ecn != ECN_DROPS && carried->ttl != 0;
}

#define CARRIED_V4 12u /* octets at the start of an inner packet that change with them */
#define CARRIED_V6 8u

/* The start of the packet with these in it; an IPv4 header sums up to the same afterwards. */
static __always_inline void write_carried(__u8 head[CARRIED_V4], bool is_v4, const struct carried *carried,
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

/* False: there is no memory, and nothing has changed. */
static __always_inline bool store_carried(struct __sk_buff *skb, bool is_v4, const __u8 head[CARRIED_V4], __u32 offset)
{
    return is_v4 ? bpf_skb_store_bytes(skb, offset, head, CARRIED_V4, BPF_F_RECOMPUTE_CSUM) == 0
                 : bpf_skb_store_bytes(skb, offset, head, CARRIED_V6, BPF_F_RECOMPUTE_CSUM) == 0;
}

/* Notes what the core wants to know; true: the tun tier reports, and gets the packet. */
static __always_inline bool note_heard(struct lm_shared_state *s, const struct in_flow *flow, __u64 now)
{
    if (s->traffic[1].is_watched)
        return true;
    if (flow->has_relays && s->unanswered[flow->path % LM_SHARED_PATHS])
        s->unanswered[flow->path % LM_SHARED_PATHS] = 0;
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->remote);
    if (!remote)
        return false;
    struct lm_silence *company = company_of(remote);
    if ((remote->silence.is_told && asks(&remote->silence, now)) || (company && company->is_told && asks(company, now)))
        return true;
    if (remote->silence.quick) {
        remote->silence.heard = now;
        remote->silence.since = 0;
    }
    if (company && company->quick) {
        company->heard = now;
        company->since = 0;
    }
    return false;
}

/*
 * A checksum that nobody has verified is for the socket to verify. A super-packet's was, or there was no wire. From a
 * control port data comes to the common data port alone (data_port.c, lm_data_port_pass_bare).
 */
static __always_inline bool is_for_socket(struct __sk_buff *skb, const struct lm_shared_state *s,
                                          const struct outer *outer)
{
    if (outer->source_port == CONTROL_PORT && outer->port != s->data_port)
        return true;
    return outer->sum && !skb->gso_size && bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) < 0;
}

SEC("tc")
int lm_decap(struct __sk_buff *skb)
{
    __u32 zero = 0, cpu = bpf_get_smp_processor_id();
    const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct lm_shared_state *s = bpf_map_lookup_elem(&state, &zero);
    struct lm_shared_counts *count = bpf_map_lookup_elem(&counts, &cpu);
    struct arrival a = {};
    struct carried carried;
    if (!s || !count || !s->is_on || skb->pkt_type != 0 || skb->vlan_present || !read_outer(skb, data, end, &a.outer) ||
        is_for_socket(skb, s, &a.outer) || !read_arrival(skb, data, end, &a))
        return FALL_THROUGH;
    if (a.inner.protocol == IPPROTO_UDP && (is_lisp_port((__u16)(a.words[0] >> 32)) || skb->gso_size))
        return FALL_THROUGH;
    const __u8 *packet = data + (a.outer.is_v4 ? ETH_HLEN + OUTER_V4 : ETH_HLEN + OUTER_V6);
    struct in_flow *flow = in_flow_of(s, &a);
    __u64 now = bpf_ktime_get_ns();
    if (!flow || flow->is_passed || note_heard(s, flow, now) || !carry(s, &a, &carried) || carried.is_odd)
        return FALL_THROUGH;
    if ((a.flags & LISP_FLAG_L) && (!flow->has_status || flow->status != a.second)) {
        flow->status = a.second;
        flow->has_status = 1;
        return FALL_THROUGH;
    }
    if (carried.tos != a.inner.tos || carried.ttl != a.inner.ttl) {
        __u8 head[CARRIED_V4];
        if (packet + 20 > end)
            return FALL_THROUGH;
        write_carried(head, a.inner.is_v4, &carried, packet);
        if (!store_carried(skb, a.inner.is_v4, head, a.offset))
            return FALL_THROUGH;
    }
    __u32 offset = a.offset, segments = a.segments, repeated = a.repeated;
    __u32 length = skb->len - offset, queue = flow->queue;
    __u64 how = BPF_F_ADJ_ROOM_FIXED_GSO;
    if (a.outer.is_v4 != a.inner.is_v4) /* older kernels refuse this, and nothing has changed then */
        how |= a.inner.is_v4 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
    if (bpf_skb_adjust_room(skb, a.outer.is_v4 ? -(int)OUTER_V4 : -(int)OUTER_V6, BPF_ADJ_ROOM_MAC, how))
        return FALL_THROUGH;
    skb->queue_mapping = queue + 1; /* as the TUN does with what is written to a queue */
    s->traffic[1].last = now;
    __u64 octets = length + (segments - 1) * repeated;
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->remote);
    if (remote) {
        __sync_fetch_and_add(&remote->received, segments);
        __sync_fetch_and_add(&remote->received_octets, octets);
    }
    count->data_packets += segments;
    count->data_octets += octets;
    return (int)bpf_redirect(s->device, BPF_F_INGRESS);
}

#endif
