/* The path, the locator and the outer header of a flow, from the TUN or relayed. */
#ifndef LM_OUT_FLOW_H
#define LM_OUT_FLOW_H

#include "lib/choose.h"
#include "lib/parse.h"
#include "lib/report.h"

/* A flow. The words are those that lm_packet_flow_hash hashes. */
struct out_flow {
    __u64 words[5];
    __u32 mark, generation;
    __u32 is_passed, is_v4; /* `is_passed`: falls through; `is_v4`: the outer family */
    __u32 ifindex, path, remote, room;
    __u32 large; /* inner packets of this many octets are large for the path */
    __u32 sum;   /* of the outer IPv4 header without length, TOS and TTL */
    /* Only a default entry matches the destination: from time to time a packet goes to the tun tier for a report. */
    __u32 reports;
    __u64 report_at;  /* when the next one goes there */
    __u32 has_relays; /* packets to relays must be answered within LM_STALL_NS */
    __u32 lane;       /* the lane of its mark */
    __u32 hash;       /* the lower half */
    __u32 is_whole;   /* the device completes partial checksums */
    __u64 led_until;  /* when to look the next hop up again; 0: at the next packet */
    __u32 is_led;     /* `link` leads there: its Ethernet addresses, destination first */
    __u8 link[12];
    __u8 head[LM_OUTER_V6] __attribute__((aligned(8)));
};

#define LED_FOR_NS 1000000u /* ours: how long a changed route may still be used, as by a socket that is just sending */
#define AF_INET 2
#define AF_INET6 10

/* A question to bpf_fib_lookup: where packets with this outer header lead that come in at `ifindex`. */
static __always_inline void put_route(struct bpf_fib_lookup *route, __u32 ifindex, bool is_v4, const __u8 *head)
{
    __builtin_memset(route, 0, sizeof *route);
    route->ifindex = ifindex;
    route->l4_protocol = IPPROTO_UDP;
    if (is_v4) {
        route->family = AF_INET;
        __builtin_memcpy(&route->ipv4_src, head + 12, 4);
        __builtin_memcpy(&route->ipv4_dst, head + 16, 4);
    } else {
        route->family = AF_INET6;
        __builtin_memcpy(route->ipv6_src, head + 8, 16);
        __builtin_memcpy(route->ipv6_dst, head + 24, 16);
    }
}

/* Ethernet addresses as they stand in a frame. */
static __always_inline void put_link(__u8 link[12], const struct bpf_fib_lookup *route)
{
    __builtin_memcpy(link, route->dmac, 6);
    __builtin_memcpy(link + 6, route->smac, 6);
}

static __always_inline void put_head(struct out_flow *flow, const __u8 source[16],
                                     const struct lm_shared_locator *locator, __u32 instance_id, __u16 port, __u64 hash,
                                     __u64 status)
{
    __u8 *udp = flow->head + (flow->is_v4 ? 20 : 40);
    __builtin_memset(flow->head, 0, sizeof flow->head);
    if (flow->is_v4) {
        flow->head[0] = 0x45;
        flow->head[6] = 0x40; /* DF: the identification has no meaning then (RFC 6864) */
        flow->head[9] = IPPROTO_UDP;
        __builtin_memcpy(flow->head + 12, source, 4);
        __builtin_memcpy(flow->head + 16, locator->address, 4);
        __u64 sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += *(__u16 *)(flow->head + i);
        flow->sum = fold(sum);
    } else {
        __u32 first = bpf_htonl(0x60000000 | ((__u32)hash & 0xfffff)); /* the flow label distinguishes flows too */
        __builtin_memcpy(flow->head, &first, 4);
        flow->head[6] = IPPROTO_UDP;
        __builtin_memcpy(flow->head + 8, source, 16);
        __builtin_memcpy(flow->head + 24, locator->address, 16);
    }
    __u16 ports[2] = {bpf_htons(port), bpf_htons(locator->port)};
    __builtin_memcpy(udp, ports, 4);
    __u32 second = instance_id << 8;
    if (instance_id)
        udp[8] = LM_FLAG_I;
    if (status & LM_STATUS_SENT) {
        udp[8] |= LM_FLAG_L;
        second = lm_rules_put_status(second, instance_id != 0, (__u32)status);
    }
    second = bpf_htonl(second);
    __builtin_memcpy(udp + 12, &second, 4);
}

/* Until the route is known, each packet decides again. The tun tier reports the route after the first packet. */
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

/* Finds the locators of a destination and marks its entry as used; NULL: none, or another disposition. */
static __always_inline struct lm_shared_set *destination_of(bool is_v4, __u32 instance_id, const __u64 to[2],
                                                            __u32 *reports)
{
    struct lm_trie_value *entry = find(LM_SPACE_TABLE, is_v4, instance_id, to[0], to[1]);
    if (!entry || (entry->kind != LM_ENCAPSULATE && entry->kind != LM_ENCAPSULATE_AND_REPORT))
        return NULL;
    *reports = entry->kind == LM_ENCAPSULATE_AND_REPORT;
    struct lm_shared_set *set = bpf_map_lookup_elem(&sets, &entry->value);
    __u32 page = entry->number / LM_SHARED_USED_PAGE, place = entry->number % LM_SHARED_USED_PAGE;
    struct used_page *marks = bpf_map_lookup_elem(&used, &page);
    if (!set || !marks)
        return NULL;
    marks->is_used[place] = 1;
    return set;
}

/* True for a locator without a prescribed source. */
static __always_inline bool is_plain(const struct lm_shared_locator *locator)
{
    return locator->remote < LM_SHARED_REMOTES && !locator->source_port;
}

/* The port of the path's pool for a flow. */
static __always_inline __u16 port_of(const struct lm_shared_path *path, __u64 hash)
{
    return path->ports[lm_rules_pool_place(hash, path->pool ? path->pool : 1) % LM_SHARED_POOL];
}

/* Stores path and locator of a flow, and the largest inner packet; false: the locator is unknown here. */
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
          added = lm_rules_outer_octets(flow->is_v4);
    if (found && found < mtu)
        mtu = found;
    flow->room = mtu - added;
    flow->large = lm_large_from(mtu) - added;
    return true;
}

/* The fields of a flow's outer header that differ from packet to packet. */
static __always_inline void finish_head(__u8 *head, const struct out_flow *flow, __u32 length, __u8 tos, __u8 ttl)
{
    __u16 *half = (__u16 *)head, udp_length = bpf_htons((__u16)(length + (LM_UDP_HEADER + LM_DATA_HEADER)));
    if (flow->is_v4) {
        head[1] = tos;
        half[1] = bpf_htons((__u16)(length + LM_OUTER_V4));
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

#endif
