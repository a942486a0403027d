/*
 * From an uplink to the TUN (tc, ingress of an Ethernet uplink): the ETR of the ebpf tier.
 *
 * What happens to a packet, in lm_decap():
 *
 *  1. read_outer() and read_arrival() parse the outer headers, the LISP header and the inner packet.
 *  2. in_flow_of() finds the slot of the flow and its tunnel. For a new flow, or when tables or uplinks have changed,
 *     is_accepted() applies the ETR's rules, and judge_source() checks that the sender may send for the source, as the
 *     tun tier does (engine/inbound.c).
 *  3. note_heard() records that data has come from the locator. If the tun tier has to report that, it gets the packet.
 *  4. New Locator-Status-Bits go to the tun tier.
 *  5. carry() takes TTL and ECN over from the outer header. The outer headers are removed, and the packet is received
 *     from the TUN.
 *
 * Only packets that are certainly valid take this path. All others go on to the UDP socket, where the tun tier checks
 * and counts them.
 */
#include "lib/carry.h"
#include "lib/out_flow.h"

/* A flow between two addresses through one tunnel, after it was accepted. */
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

/* True when the address is one of the set's locators. */
static __always_inline bool holds(__u32 number, const struct lm_shared_address *sender)
{
    struct lm_shared_set *set = bpf_map_lookup_elem(&sets, &number);
    const __u64 *wanted = (const __u64 *)(const void *)sender->octets;
    bool is_there = false;
    if (!set)
        return false;
    for (__u32 i = 0; i < LM_SHARED_LOCATORS; i++) {
        struct lm_shared_locator *locator = &set->locators[i];
        if (i >= set->count)
            break;
        const __u64 *a = (const __u64 *)locator->address;
        if (locator->contender.family == sender->family && a[0] == wanted[0] && a[1] == wanted[1])
            is_there = true;
    }
    return is_there;
}

/* The conditions under which lm_source_is_local() and lm_source_judge() in source.c accept without a rate limit. */
static __always_inline bool is_proven(struct lm_shared_state *s, const struct in_flow *flow, const struct outer *outer,
                                      const struct lm_shared_address *sender, bool is_v4, __u32 instance_id,
                                      const __u64 source[2])
{
    bool outer_v4 = outer->is_v4;
    if (s->source_check < LM_CHECK_OFF)
        return true;
    struct lm_trie_value *near = find(LM_SPACE_NEAR, outer_v4, 0, outer->source[0], outer->source[1]);
    __u32 kind = near ? near->value : 0;
    if (kind == LM_NEAR_OWN || !lm_may_be_eid(outer_v4, outer->source[0], outer->source[1]) ||
        find(LM_SPACE_RLOCS, outer_v4, 0, outer->source[0], outer->source[1]) ||
        find(LM_SPACE_EIDS, outer_v4, 0, outer->source[0], outer->source[1]))
        return false;
    if (s->source_check < LM_CHECK_LOOSE || flow->has_relays)
        return true;
    near = find(LM_SPACE_NEAR, is_v4, 0, source[0], source[1]);
    if (near && near->value != LM_NEAR_PROXY)
        return false;
    if (kind == LM_NEAR_PROXY)
        return true;
    struct lm_trie_value *entry = find(LM_SPACE_TABLE, is_v4, instance_id, source[0], source[1]);
    return entry && entry->kind == LM_ENCAPSULATE && holds(entry->value, sender);
}

/* True when the checks of the ETR hold, as judge() in inbound.c applies them at a node. */
static __always_inline bool is_accepted(struct lm_shared_state *s, struct in_flow *flow, const struct outer *outer,
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
    /* The entry may be negative: the tun tier reports that to the control plane (liveness/destination_report.c). */
    struct lm_trie_value *sent_by = find(LM_SPACE_TABLE, is_v4, instance_id, source[0], source[1]);
    if (sent_by && lm_rules_refuses(sent_by->kind))
        return false;
    if (find(LM_SPACE_REFUSED, is_v4, instance_id, source[0],
             source[1])) /* it must be sealed: the tun tier counts it */
        return false;
    __u32 place = rloc->value;
    flow->path = place;
    __u16 ephemeral = 0;
    struct lm_shared_address sender = make_address(outer_v4, outer->source[0], outer->source[1]);
    if (place < LM_SHARED_PATHS) {
        struct lm_shared_path *path = &all->paths[place];
        ephemeral = path->data_port;
        if (path->relays && path->ifindex != ifindex)
            return false;   /* another interface may have the same address: the tun tier distinguishes them */
        if (path->relays) { /* behind a NAT only the RTRs may send */
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

__noinline int judge_anew(struct lm_shared_state *s, struct in_flow *flow, const struct arrival *a)
{
    if (!s || !flow || !a)
        return 0;
    bool is_v4 = a->inner.is_v4;
    __u64 source[2] = {is_v4 ? a->words[1] >> 32 : a->words[1], a->words[2]};
    __u64 to[2] = {is_v4 ? (__u32)a->words[1] : a->words[3], a->words[4]};
    flow->generation = s->generation; /* first, as in encap */
    flow->is_passed = !is_accepted(s, flow, &a->outer, is_v4, a->instance_id, source, to, a->ifindex);
    return 0;
}

/* A separate function, because the stack of a program and its functions is small. */
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

/* Records the arrival for the core; true: the tun tier must report, and gets the packet. */
static __always_inline bool note_heard(struct lm_shared_state *s, const struct in_flow *flow, __u64 now)
{
    if (s->traffic[1].is_watched)
        return true;
    if (flow->has_relays && s->unanswered[flow->path % LM_SHARED_PATHS])
        s->unanswered[flow->path % LM_SHARED_PATHS] = 0;
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->remote);
    if (!remote)
        return false;
    struct lm_silence *group = group_of(remote);
    if ((remote->silence.is_reported && asks(&remote->silence, now)) ||
        (group && group->is_reported && asks(group, now)))
        return true;
    if (remote->silence.quick) {
        remote->silence.heard = now;
        remote->silence.since = 0;
    }
    if (group && group->quick) {
        group->heard = now;
        group->since = 0;
    }
    return false;
}

/*
 * True when the packet must go to the UDP socket: its checksum is not verified (that of a super-packet was, or there
 * was no wire), or it comes from a control port, whose data is accepted only at the common data port (data_port.c,
 * lm_data_port_pass_bare).
 */
static __always_inline bool is_for_socket(struct __sk_buff *skb, const struct lm_shared_state *s,
                                          const struct outer *outer)
{
    if (outer->source_port == LM_PORT_CONTROL && outer->port != s->data_port)
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
    struct lm_carried carried;
    if (!s || !count || !s->is_on || skb->pkt_type != 0 || skb->vlan_present || !read_outer(skb, data, end, &a.outer) ||
        is_for_socket(skb, s, &a.outer) || !read_arrival(skb, data, end, &a))
        return FALL_THROUGH;
    if (a.inner.protocol == IPPROTO_UDP && (is_lisp_port((__u16)(a.words[0] >> 32)) || skb->gso_size))
        return FALL_THROUGH;
    const __u8 *packet = data + (a.outer.is_v4 ? ETH_HLEN + LM_OUTER_V4 : ETH_HLEN + LM_OUTER_V6);
    struct in_flow *flow = in_flow_of(s, &a);
    __u64 now = bpf_ktime_get_ns();
    if (!flow || flow->is_passed || note_heard(s, flow, now) || !carry(s, &a, &carried) || (carried.ecn & LM_ECN_ODD))
        return FALL_THROUGH;
    if ((a.flags & LM_FLAG_L) && (!flow->has_status || flow->status != a.second)) {
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
    if (a.outer.is_v4 != a.inner.is_v4) /* older kernels refuse this; the packet is unchanged then */
        how |= a.inner.is_v4 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
    if (bpf_skb_adjust_room(skb, a.outer.is_v4 ? -(int)LM_OUTER_V4 : -(int)LM_OUTER_V6, BPF_ADJ_ROOM_MAC, how))
        return FALL_THROUGH;
    skb->queue_mapping = queue + 1; /* as the TUN does with packets written to a queue */
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
