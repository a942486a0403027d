/*
 * From the TUN to an uplink (tc, egress of the TUN): the ITR of the ebpf tier.
 *
 * What happens to a packet, in lm_encap():
 *
 *  1. read_inner() parses it. Fragments and other packets that need a decision of their own go on to the TUN's queue.
 *  2. flow_of() finds the flow's slot. The slot holds the decision and the finished outer header, and is valid until
 *     the generation of tables and uplinks changes.
 *  3. For a new flow or generation decide() does what the tun tier does (engine/outbound.c): source and destination
 *     must be EIDs, the mark names an uplink, the flow hash chooses uplink and locator. put_head() writes the headers.
 *  4. A packet that the tun tier has to see goes there: it is too large for the path, a report is due, or an answer is
 *     overdue (lib/report.h).
 *  5. finish_head() fills in lengths, TTL and ECN. The packet gets its outer header, and leaves by the uplink: once a
 *     millisecond by the kernel's route and neighbour, else with the link header that they had (find_link).
 *
 * A flow without a clear decision (`is_passed`) stays on the TUN's queue, and so in the tun tier.
 */
#include "lib/last_packet.h"
#include "lib/out_flow.h"

#define REPORT_AGAIN_NS 10000000000ull /* the same as in liveness/destination_report.c */

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, OUT_FLOWS);
    __type(key, __u32);
    __type(value, struct out_flow);
} out_flows SEC(".maps");

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

/* True when the flow may take the fast path; everything needed for sending is then in it. */
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
    struct lm_shared_set *set = destination_of(is_v4, instance_id, to, &flow->reports);
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
    flow->lane = lane;
    flow->hash = (__u32)hash;
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
    flow->generation = s->generation; /* first: the next packet notices a change that happens meanwhile */
    flow->is_passed = !decide(s, flow);
    return 0;
}

/* The slot of the flow, decided; NULL if there is none. */
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
    flow->report_at = 0;
    flow->led_until = 0;
    flow->is_led = 0;
    decide_anew(s, flow);
    return flow;
}

#ifndef BPF_FIB_LOOKUP_MARK /* Linux 6.10 */
#define BPF_FIB_LOOKUP_MARK (1u << 5)
#endif

/*
 * Looks up the next hop of a flow over IPv4, for the packets of the next millisecond: those leave with its link header,
 * and without a lookup of route and neighbour each. This packet still leaves by the kernel's neighbour, which keeps
 * that alive, as before. The route must be the one that bpf_redirect_neigh would take, so the question has no ports
 * either. None is found where the kernel does not answer (datapath/device/tun.py, answer_programs).
 */
static __noinline int find_link(struct __sk_buff *skb, struct lm_shared_state *s, struct out_flow *flow, __u64 now)
{
    struct bpf_fib_lookup route;
    if (!s || !flow)
        return 0;
    put_route(&route, skb->ifindex, true, flow->head);
    __builtin_memcpy(route.smac, &s->mark, sizeof s->mark); /* `mark`, for kernels that heed it */
    flow->led_until = now + LED_FOR_NS;
    flow->is_led =
        bpf_fib_lookup(skb, &route, sizeof route, s->mark ? BPF_FIB_LOOKUP_MARK : 0) == BPF_FIB_LKUP_RET_SUCCESS &&
        route.ifindex == flow->ifindex;
    put_link(flow->link, &route);
    return 0;
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
    if (!s || !count || !s->is_on || length > LM_IP_PACKET_MAX - LM_OUTER_V6 ||
        !read_inner(data, end, length, &inner, words) || inner.ttl == 0)
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
    if (flow->reports && now >= flow->report_at) {
        flow->report_at = now + REPORT_AGAIN_NS;
        return FALL_THROUGH;
    }
    if (size > flow->room ||
        is_for_report(s, flow->path, flow->remote, flow->is_whole, now, length, size >= flow->large) ||
        (flow->has_relays && waits_in_vain(s, flow->path, now)))
        return FALL_THROUGH;

    __u8 tos = lm_rules_outer_tos(inner.tos, s->copy_dscp);
    __u8 frame[16 + LM_OUTER_V6] __attribute__((aligned(8))), *head = frame + 16, *link = frame + 2;
    __u32 is_v4 = flow->is_v4, ifindex = flow->ifindex;
    bool is_due = now >= flow->led_until, has_link = !is_due && flow->is_led;
    if (is_due && is_v4)
        find_link(skb, s, flow, now);
    __builtin_memcpy(link, flow->link, sizeof flow->link);
    *(__u16 *)(void *)(link + 12) = is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
    __builtin_memcpy(head, flow->head, LM_OUTER_V6);
    finish_head(head, flow, length, tos, inner.ttl);
    if (inner.protocol == IPPROTO_TCP)
        keep_last(skb, flow, segments > 1 ? size : length, now);
    /* Room for the link header, which a packet of the TUN does not have; redirect_neigh removes it. */
    if (bpf_skb_change_head(skb, ETH_HLEN, 0))
        return FALL_THROUGH;
    __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
                  (is_v4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
    long error = bpf_skb_adjust_room(skb, is_v4 ? LM_OUTER_V4 : LM_OUTER_V6, BPF_ADJ_ROOM_MAC, flags);
    if (!error) /* not by direct access, which would copy data that a TCP socket keeps for retransmission */
        error = is_v4 ? bpf_skb_store_bytes(skb, 0, link, ETH_HLEN + LM_OUTER_V4, 0)
                      : bpf_skb_store_bytes(skb, 0, link, ETH_HLEN + LM_OUTER_V6, 0);
    if (error) {
        count->lost++;
        return 2; /* TCX_DROP, TC_ACT_SHOT: no memory, and the packet is changed already */
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
    return (int)(has_link ? bpf_redirect(ifindex, 0) : bpf_redirect_neigh(ifindex, NULL, 0, 0));
}
