/*
 * From the TUN to an uplink (tc, egress of the TUN). What is decided for a flow is kept, with its outer header ready to
 * be copied, until anything changes; what is not clear as day goes on to the TUN's queue, where the tun tier takes it.
 */
#ifndef LM_ENCAP_BPF_H
#define LM_ENCAP_BPF_H

#include <linux/if_ether.h>

#include "choose.bpf.h"
#include "report.bpf.h"

#define LISP_FLAG_I 0x08
#define LISP_FLAG_L 0x40
#define OUTER_V4 36u
#define OUTER_V6 56u
#define UDP_LENGTH_ADDED 16u
#define PACKET_MAX 65535u
#define ENCAPSULATES 0u /* LM_ENCAPSULATE */

/* A flow as lm_packet_flow_hash sees it: the words are those that it hashes. */
struct out_flow {
    __u64 words[5];
    __u32 mark, generation;
    __u32 is_passed, is_v4; /* falls through; the outer family */
    __u32 ifindex, path, remote, room;
    __u32 large;      /* inner packets of so many octets are large for the path */
    __u32 sum;        /* of the outer IPv4 header without length, TOS and TTL */
    __u32 has_relays; /* what is sent to them has to be answered soon */
    __u32 is_whole;   /* nothing that is left open gets past the device */
    __u8 head[OUTER_V6] __attribute__((aligned(8)));
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, OUT_FLOWS);
    __type(key, __u32);
    __type(value, struct out_flow);
} out_flows SEC(".maps");

struct inner {
    __u32 is_v4, header;
    __u8 protocol, tos, ttl;
};

static __always_inline __u16 get16(const void *at)
{
    __u16 value;
    __builtin_memcpy(&value, at, sizeof value);
    return bpf_ntohs(value);
}

static __always_inline __u32 get32(const void *at)
{
    __u32 value;
    __builtin_memcpy(&value, at, sizeof value);
    return bpf_ntohl(value);
}

static __always_inline __u64 get64(const void *at)
{
    return (__u64)get32(at) << 32 | get32(at + 4);
}

/* Reads a whole packet at `data` that has nothing unusual; false: it has. */
static __always_inline bool read_inner(const __u8 *data, const __u8 *end, __u32 length, struct inner *inner,
                                       __u64 words[5])
{
    __u32 ports = 0;
    if (data + 28 > end)
        return false;
    inner->is_v4 = data[0] == 0x45;
    if (inner->is_v4) {
        __u64 sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += *(const __u16 *)(data + i);
        if (get16(data + 2) != length || (get16(data + 6) & 0x3fff) || fold(sum) != 0xffff)
            return false;
        inner->header = 20;
        inner->tos = data[1];
        inner->ttl = data[8];
        inner->protocol = data[9];
        if (has_ports(inner->protocol))
            ports = get32(data + 20);
        words[1] = get64(data + 12);
        words[2] = words[3] = words[4] = 0;
    } else {
        if (data[0] >> 4 != 6 || data + 48 > end || get16(data + 4) + 40u != length)
            return false;
        inner->header = 40;
        inner->tos = (__u8)(data[0] << 4 | data[1] >> 4);
        inner->ttl = data[7];
        inner->protocol = data[6];
        if (is_extension(inner->protocol))
            return false;
        if (has_ports(inner->protocol))
            ports = get32(data + 40);
        words[1] = get64(data + 8);
        words[2] = get64(data + 16);
        words[3] = get64(data + 24);
        words[4] = get64(data + 32);
    }
    words[0] = (inner->is_v4 ? 4 : 6) | (__u64)inner->protocol << 8 | (__u64)(ports >> 16) << 16 |
               (__u64)(ports & 0xffff) << 32;
    return true;
}

static __always_inline void put_head(struct out_flow *flow, const __u8 source[16],
                                     const struct lm_shared_locator *locator, __u32 instance_id, __u16 port, __u64 hash,
                                     __u64 status)
{
    __u8 *udp = flow->head + (flow->is_v4 ? 20 : 40);
    __builtin_memset(flow->head, 0, sizeof flow->head);
    if (flow->is_v4) {
        flow->head[0] = 0x45;
        flow->head[6] = 0x40; /* DF; so the identification has no meaning (RFC 6864) */
        flow->head[9] = IPPROTO_UDP;
        __builtin_memcpy(flow->head + 12, source, 4);
        __builtin_memcpy(flow->head + 16, locator->address, 4);
        __u64 sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += *(__u16 *)(flow->head + i);
        flow->sum = fold(sum);
    } else {
        __u32 first = bpf_htonl(0x60000000 | ((__u32)hash & 0xfffff)); /* the flow label tells flows apart, too */
        __builtin_memcpy(flow->head, &first, 4);
        flow->head[6] = IPPROTO_UDP;
        __builtin_memcpy(flow->head + 8, source, 16);
        __builtin_memcpy(flow->head + 24, locator->address, 16);
    }
    __u16 ports[2] = {bpf_htons(port), bpf_htons(locator->port)};
    __builtin_memcpy(udp, ports, 4);
    __u32 second = instance_id << 8;
    if (instance_id)
        udp[8] = LISP_FLAG_I;
    if (status & LM_STATUS_TOLD) {
        udp[8] |= LISP_FLAG_L;
        second |= instance_id ? (__u32)status & 0xff : (__u32)status;
    }
    second = bpf_htonl(second);
    __builtin_memcpy(udp + 12, &second, 4);
}

static __always_inline bool mark_lane(struct lm_shared_state *s, __u32 mark, __u32 *lane)
{
    *lane = 0;
    if (mark == 0)
        return true;
    for (__u32 i = 0; i < LM_SHARED_LANES; i++) {
        if (i >= s->lane_count)
            break;
        if (s->lanes[i].mark != mark)
            continue;
        if (s->lanes[i].ifindex <= 0)
            return false;
        *lane = (__u32)s->lanes[i].ifindex;
        return true;
    }
    return false;
}

/* While nobody has told it the flow is decided again with each packet: the tun tier tells with the first that it sends. */
static __always_inline bool is_straight(struct lm_shared_state *s, struct out_flow *flow,
                                        const struct lm_shared_locator *locator)
{
    struct lm_shared_way way = {.ifindex = flow->ifindex, .routes = s->routes};
    __builtin_memcpy(way.address, locator->address, sizeof way.address);
    __u32 *told = bpf_map_lookup_elem(&ways, &way);
    if (!told)
        flow->generation = s->generation - 1;
    return told && *told;
}

/* The locators of a destination, whose entry counts as used from now on; NULL: none, or the entry says something else. */
static __always_inline struct lm_shared_set *destination_of(bool is_v4, __u32 instance_id, const __u64 to[2])
{
    struct lm_trie_value *entry = find(LM_SPACE_TABLE, is_v4, instance_id, to[0], to[1]);
    if (!entry || entry->kind != ENCAPSULATES)
        return NULL;
    struct lm_shared_set *set = bpf_map_lookup_elem(&sets, &entry->value);
    __u32 page = entry->number / LM_SHARED_USED_PAGE, place = entry->number % LM_SHARED_USED_PAGE;
    struct used_page *marks = bpf_map_lookup_elem(&used, &page);
    if (!set || !marks)
        return NULL;
    marks->is_used[place] = 1;
    return set;
}

/* True for a locator that is sent to from wherever the uplink sends. */
static __always_inline bool is_plain(const struct lm_shared_locator *locator)
{
    return locator->remote < LM_SHARED_REMOTES && !locator->source_port;
}

/* Which port of the path's pool a flow leaves from. */
static __always_inline __u16 port_of(const struct lm_shared_path *path, __u64 hash)
{
    __u32 pool = path->pool ? path->pool : 1, at = (__u32)(hash * 0x9e3779b97f4a7c15ull >> 40) % pool;
    return path->ports[at % LM_SHARED_POOL];
}

/* Notes path and locator of a flow, and how much fits in between; false: nothing is known of the locator. */
static __always_inline bool measure_way(struct out_flow *flow, const struct lm_shared_path *path,
                                        const struct lm_shared_locator *locator, __u32 place)
{
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &locator->remote);
    if (!remote)
        return false;
    flow->is_v4 = path->contender.family == 4;
    flow->is_whole = path->is_whole;
    flow->ifindex = path->ifindex;
    flow->path = place;
    flow->remote = locator->remote;
    __u32 mtu = path->mtu, found = remote->mtu[place & (LM_SHARED_PATHS - 1)],
          added = flow->is_v4 ? OUTER_V4 : OUTER_V6;
    if (found && found < mtu)
        mtu = found;
    flow->room = mtu - added;
    flow->large = lm_large_from(mtu) - added;
    return true;
}

/* True when the flow may take the short way; everything that sending needs is then in it. */
static __always_inline bool decide(struct lm_shared_state *s, struct out_flow *flow)
{
    bool is_v4 = (flow->words[0] & 0xff) == 4;
    __u64 source[2] = {is_v4 ? flow->words[1] >> 32 : flow->words[1], flow->words[2]};
    __u64 to[2] = {is_v4 ? (__u32)flow->words[1] : flow->words[3], flow->words[4]};
    __u32 lane, key = s->uplinks;
    struct way way = {};
    if ((__u8)(flow->words[0] >> 8) == IPPROTO_UDP &&
        (is_lisp_port((__u16)(flow->words[0] >> 16)) || is_lisp_port((__u16)(flow->words[0] >> 32))))
        return false;
    struct lm_trie_value *own = find(LM_SPACE_EIDS, is_v4, 0, source[0], source[1]);
    if (!own || !lm_may_be_eid(is_v4, to[0], to[1]) || find(LM_SPACE_EIDS, is_v4, 0, to[0], to[1]) ||
        find(LM_SPACE_GUARD, is_v4, 0, to[0], to[1]) || !mark_lane(s, flow->mark, &lane))
        return false;
    __u32 instance_id = own->value;
    struct lm_shared_set *set = destination_of(is_v4, instance_id, to);
    struct lm_shared_uplinks *all = bpf_map_lookup_elem(&uplinks, &key);
    if (!set || !all)
        return false;
    __u64 hash = lm_siphash(s->key0, s->key1, flow->words, is_v4 ? 2 : 5);
    struct walk walk = {.all = all, .set = set, .flow = hash};
    if (!choose_way(&walk, lane, &way))
        return false;
    struct lm_shared_path *path = &all->paths[way.path & (LM_SHARED_PATHS - 1)];
    struct lm_shared_locator *locator = &set->locators[way.locator & (LM_SHARED_LOCATORS - 1)];
    if (!path->is_ready || !is_plain(locator))
        return false;
    flow->has_relays = path->relays != 0;
    if (path->relays) {
        walk.set = bpf_map_lookup_elem(&sets, &path->relays);
        if (!walk.set)
            return false;
        choose_locator(&walk, family_bit(path->contender.family));
        if (walk.winner >= LM_SHARED_LOCATORS)
            return false;
        locator = &walk.set->locators[walk.winner & (LM_SHARED_LOCATORS - 1)];
        if (!is_plain(locator))
            return false;
    }
    if (!measure_way(flow, path, locator, way.path))
        return false;
    if (!flow->is_v4 && !is_straight(s, flow, locator))
        return false;
    put_head(flow, path->address, locator, instance_id, port_of(path, hash), hash, s->status);
    return true;
}

__noinline int decide_anew(struct lm_shared_state *s, struct out_flow *flow)
{
    if (!s || !flow)
        return 0;
    flow->generation = s->generation; /* first: what changes meanwhile is seen the next time */
    flow->is_passed = !decide(s, flow);
    return 0;
}

/* The flow's own slot, decided; NULL when there is none to be had. */
static __always_inline struct out_flow *flow_of(struct lm_shared_state *s, const __u64 words[5], __u32 mark)
{
    __u32 place = (__u32)slot_of(s, words, 5) % OUT_FLOWS;
    struct out_flow *flow = bpf_map_lookup_elem(&out_flows, &place);
    if (!flow)
        return flow;
    if (flow->generation == s->generation && flow->words[0] == words[0] && flow->words[1] == words[1] &&
        flow->words[2] == words[2] && flow->words[3] == words[3] && flow->words[4] == words[4] && flow->mark == mark)
        return flow;
    __builtin_memcpy(flow->words, words, sizeof flow->words);
    flow->mark = mark;
    decide_anew(s, flow);
    return flow;
}

/* What differs from packet to packet in the outer header of a flow. */
static __always_inline void finish_head(__u8 *head, const struct out_flow *flow, __u32 length, __u8 tos, __u8 ttl)
{
    __u16 *half = (__u16 *)head, udp_length = bpf_htons((__u16)(length + UDP_LENGTH_ADDED));
    if (flow->is_v4) {
        head[1] = tos;
        half[1] = bpf_htons((__u16)(length + OUTER_V4));
        head[8] = ttl;
        half[5] = (__u16)~fold((__u64)flow->sum + bpf_htons(tos) + half[1] + bpf_htons((__u16)(ttl << 8)));
        half[12] = udp_length;
    } else {
        head[0] = (__u8)(0x60 | tos >> 4);
        head[1] = (__u8)((head[1] & 0x0f) | tos << 4);
        head[7] = ttl;
        half[2] = udp_length;
        half[22] = udp_length;
    }
}

SEC("tc")
int lm_encap(struct __sk_buff *skb)
{
    __u32 zero = 0, length = skb->len, segments = 1, repeated = 0, cpu = bpf_get_smp_processor_id();
    struct lm_shared_state *s = bpf_map_lookup_elem(&state, &zero);
    struct lm_shared_counts *count = bpf_map_lookup_elem(&counts, &cpu);
    const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct inner inner;
    __u64 words[5];
    if (!s || !count || !s->is_on || length > PACKET_MAX - OUTER_V6 || !read_inner(data, end, length, &inner, words) ||
        inner.ttl == 0)
        return FALL_THROUGH;
    if (skb->gso_size) { /* TCP: each segment repeats the headers */
        if (inner.protocol != IPPROTO_TCP || data + inner.header + 20 > end)
            return FALL_THROUGH;
        repeated = inner.header + (data[inner.header + 12] >> 4) * 4;
        if (length <= repeated)
            return FALL_THROUGH;
        segments = (length - repeated + skb->gso_size - 1) / skb->gso_size;
    }
    struct out_flow *flow = flow_of(s, words, skb->mark & s->mark_mask);
    if (!flow || flow->is_passed)
        return FALL_THROUGH;
    __u64 now = bpf_ktime_get_ns();
    __u32 size = segments > 1 ? repeated + skb->gso_size : length;
    if (size > flow->room ||
        is_for_report(s, flow->path, flow->remote, flow->is_whole, now, length, size >= flow->large) ||
        (flow->has_relays && waits_in_vain(s, flow->path, now)))
        return FALL_THROUGH;

    __u8 tos = s->copy_dscp ? inner.tos : inner.tos & 3;
    __u8 head[OUTER_V6] __attribute__((aligned(8)));
    __u32 is_v4 = flow->is_v4, ifindex = flow->ifindex;
    __builtin_memcpy(head, flow->head, sizeof head);
    finish_head(head, flow, length, tos, inner.ttl);
    /* redirect_neigh expects a link header to take away, which a TUN has none of. */
    if (bpf_skb_change_head(skb, ETH_HLEN, 0))
        return FALL_THROUGH;
    __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
                  (is_v4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
    long error = bpf_skb_adjust_room(skb, is_v4 ? OUTER_V4 : OUTER_V6, BPF_ADJ_ROOM_MAC, flags);
    if (!error) /* not by direct access, which would copy what a TCP socket keeps for sending again */
        error = is_v4 ? bpf_skb_store_bytes(skb, ETH_HLEN, head, OUTER_V4, 0)
                      : bpf_skb_store_bytes(skb, ETH_HLEN, head, OUTER_V6, 0);
    if (error) {
        count->lost++;
        return 2; /* TCX_DROP, TC_ACT_SHOT: no memory, and no way back */
    }
    skb->mark = s->mark;
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->remote);
    __u64 octets = length + (segments - 1) * repeated;
    if (remote) {
        __sync_fetch_and_add(&remote->sent, segments);
        __sync_fetch_and_add(&remote->sent_octets, octets);
    }
    count->out_packets += segments;
    count->out_octets += octets;
    s->traffic[0].last = now;
    return (int)bpf_redirect_neigh(ifindex, NULL, 0, 0);
}

#endif
