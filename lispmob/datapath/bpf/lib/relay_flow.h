/* The flows of an RTR: whether their data may be forwarded, by which locator and path, and where the routes lead. */
#ifndef LM_RELAY_FLOW_H
#define LM_RELAY_FLOW_H

#include "lib/carry.h"
#include "lib/out_flow.h"

#define RELAY_FLOWS 1024
#define HEADERS_MOST (ETH_HLEN + LM_OUTER_V6 + 48u)

/* A flow between two addresses through one tunnel, after it was accepted, and how it leaves. */
struct relay_flow {
    struct out_flow out; /* `words` are those of the inner packet */
    __u64 outer[5];      /* outer addresses, ports and interface of arrival */
    __u32 is_registered; /* its inner source is registered at the outer one */
    __u32 sender;        /* a remote at the outer source address; LM_NO_REMOTE: none is known */
    __u32 is_bound;      /* sent from a given address and port: routes choose the interface */
    __u32 led_to;        /* the interface that routes chose last, if it is one of ours; 0: none yet */
    __u64 led_at;        /* when the route and its link addresses were looked up, valid for a moment; 0: never */
    __u8 link[12];       /* the Ethernet addresses, destination first */
    __u32 spare;
    __u32 status, has_status; /* the Locator-Status-Bits that the tun tier has seen */
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, RELAY_FLOWS);
    __type(key, __u32);
    __type(value, struct relay_flow);
} relay_flows SEC(".maps");

/* The work area for one packet: more than the stack has room for. */
struct relay_work {
    struct arrival a;
    struct lm_carried carried;
    struct bpf_fib_lookup route;
    __u8 head[LM_OUTER_V6] __attribute__((aligned(8)));
    __u8 inner[CARRIED_V4] __attribute__((aligned(4)));
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct relay_work);
} relay_work SEC(".maps");

/* The remote of the set with this address, and with the port if there is one; false: the set has no such locator. */
static __always_inline bool find_sender(const struct lm_shared_set *set, const struct outer *outer, __u32 *sender)
{
    __u64 first = first_half(outer->is_v4, outer->source[0]), second = bpf_cpu_to_be64(outer->source[1]);
    bool is_there = false, is_exact = false;
    for (__u32 i = 0; i < LM_SHARED_LOCATORS; i++) {
        const struct lm_shared_locator *locator = &set->locators[i];
        if (i >= set->count)
            break;
        const __u64 *address = (const __u64 *)locator->address;
        if ((locator->contender.family == 4) != outer->is_v4 || address[0] != first || address[1] != second || is_exact)
            continue;
        is_there = true;
        is_exact = locator->port == outer->source_port;
        *sender = locator->remote;
    }
    return is_there;
}

/* True when the tun tier has seen and reported this inner source from this outer one. */
static __always_inline bool is_known_origin(const struct outer *outer, bool is_v4, const __u64 source[2])
{
    struct lm_shared_origin origin = {.inner = make_address(is_v4, source[0], source[1]),
                                      .outer = make_address(outer->is_v4, outer->source[0], outer->source[1]),
                                      .port = outer->source_port};
    return bpf_map_lookup_elem(&origins, &origin) != NULL;
}

/* True when the sender is not this host (source.c, lm_source_is_local), and the packet is to one of our RLOCs. */
static __always_inline bool is_from_outside(const struct outer *outer)
{
    bool is_v4 = outer->is_v4;
    struct lm_trie_value *near = find(LM_SPACE_NEAR, is_v4, 0, outer->source[0], outer->source[1]);
    return !(near && near->value == LM_NEAR_OWN) && lm_may_be_eid(is_v4, outer->source[0], outer->source[1]) &&
           !find(LM_SPACE_RLOCS, is_v4, 0, outer->source[0], outer->source[1]) &&
           !find(LM_SPACE_EIDS, is_v4, 0, outer->source[0], outer->source[1]) &&
           find(LM_SPACE_RLOCS, is_v4, 0, outer->destination[0], outer->destination[1]);
}

/* Does what judge() in inbound.c does for a proxy, and lm_rtr_note() in rtr.c. */
__noinline int judge_relayed(struct relay_flow *flow, const struct arrival *a)
{
    if (!flow || !a)
        return 0;
    bool is_v4 = a->inner.is_v4, outer_v4 = a->outer.is_v4;
    __u64 source[2] = {is_v4 ? a->words[1] >> 32 : a->words[1], a->words[2]};
    __u64 to[2] = {is_v4 ? (__u32)a->words[1] : a->words[3], a->words[4]};
    __u32 none = 0;
    flow->sender = LM_NO_REMOTE;
    flow->has_status = 0;
    flow->is_registered = 0;
    if (find(LM_SPACE_EIDS, is_v4, 0, to[0], to[1]) || !lm_may_be_eid(is_v4, to[0], to[1]) ||
        find(LM_SPACE_EIDS, is_v4, 0, source[0], source[1]) || !lm_may_be_eid(is_v4, source[0], source[1]) ||
        find(LM_SPACE_RLOCS, is_v4, 0, source[0], source[1]) || !is_from_outside(&a->outer))
        return 0;
    struct lm_trie_value *entry = find(LM_SPACE_TABLE, is_v4, a->instance_id, source[0], source[1]);
    struct lm_shared_set *set =
        entry && entry->kind == LM_ENCAPSULATE ? bpf_map_lookup_elem(&sets, &entry->value) : NULL;
    if (!set || !find_sender(set, &a->outer, &flow->sender))
        return 0;
    if (set->is_translated && !is_known_origin(&a->outer, is_v4, source)) {
        flow->out.generation--; /* the tun tier reports this packet; the next one is checked again */
        return 0;
    }
    struct lm_shared_heard way = {.source = make_address(outer_v4, a->outer.source[0], a->outer.source[1]),
                                  .local = make_address(outer_v4, a->outer.destination[0], a->outer.destination[1])};
    bpf_map_update_elem(&heard, &way, &none, BPF_ANY);
    flow->is_registered = 1;
    return 0;
}

/* Chooses the path onward, as lm_rtr_take() in rtr.c does. The packet stays in its outer family. */
static __always_inline bool choose_onward(struct lm_shared_state *s, struct relay_flow *flow, const struct arrival *a)
{
    bool is_v4 = a->inner.is_v4;
    __u64 to[2] = {is_v4 ? (__u32)a->words[1] : a->words[3], a->words[4]};
    struct out_flow *out = &flow->out;
    __u32 key = s->uplinks;
    struct way way = {};
    __u32 reports = 0; /* relayed flows have no default entries */
    struct lm_shared_set *set = destination_of(is_v4, a->instance_id, to, &reports);
    struct lm_shared_uplinks *all = bpf_map_lookup_elem(&uplinks, &key);
    if (!set || !all)
        return false;
    __u64 hash = lm_siphash(s->key0, s->key1, out->words, is_v4 ? 2 : 5);
    struct walk walk = {.all = all, .set = set, .flow = hash};
    if (!choose_way(&walk, 0, &way))
        return false;
    struct lm_shared_path *path = &all->paths[way.path & (LM_SHARED_PATHS - 1)];
    struct lm_shared_locator *locator = &set->locators[way.locator & (LM_SHARED_LOCATORS - 1)];
    if (!path->is_ready || path->relays || (path->contender.family == 4) != a->outer.is_v4 ||
        !measure_way(out, path, locator, way.path))
        return false;
    flow->is_bound = locator->source_port != 0;
    flow->led_to = 0;
    flow->led_at = 0;
    if (flow->is_bound) {
        put_head(out, locator->source, locator, a->instance_id, locator->source_port, hash, s->status);
        return true;
    }
    if (!out->is_v4 && !is_straight(s, out, locator))
        return false;
    put_head(out, path->address, locator, a->instance_id, port_of(path, hash), hash, s->status);
    return true;
}

__noinline int decide_onward(struct lm_shared_state *s, struct relay_flow *flow, const struct arrival *a)
{
    if (s && flow && a)
        flow->out.is_passed = !choose_onward(s, flow, a);
    return 0;
}

static __always_inline struct relay_flow *relay_flow_of(struct lm_shared_state *s, const struct arrival *a)
{
    __u64 outer[5] = {a->outer.source[0], a->outer.source[1], a->outer.destination[0], a->outer.destination[1],
                      (__u64)a->outer.source_port << 48 | (__u64)a->outer.is_v4 << 32 | a->ifindex};
    __u32 place = (__u32)slot_of(s, a->words, 5) % RELAY_FLOWS;
    struct relay_flow *flow = bpf_map_lookup_elem(&relay_flows, &place);
    if (!flow)
        return flow;
    __u64 differs = flow->out.generation ^ s->generation;
    for (int i = 0; i < 5; i++)
        differs |= (flow->out.words[i] ^ a->words[i]) | (flow->outer[i] ^ outer[i]);
    if (!differs)
        return flow;
    for (int i = 0; i < 5; i++) {
        flow->out.words[i] = a->words[i];
        flow->outer[i] = outer[i];
    }
    flow->out.generation = s->generation; /* first, as in encap */
    flow->out.is_passed = 1;
    judge_relayed(flow, a);
    if (flow->is_registered)
        decide_onward(s, flow, a);
    return flow;
}

/* Records whether data arrived with a UDP checksum. Without one, data may be sent without one in return. */
static __always_inline void note_sum(const struct relay_flow *flow, bool has_sum, __u64 now)
{
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->sender);
    if (!remote)
        return;
    if (!has_sum) {
        if (now >= remote->unsummed_at + LM_UNSUMMED_NOTE_NS)
            remote->unsummed_at = now;
        if (remote->summed)
            remote->summed = 0;
    } else if (remote->unsummed_at) {
        remote->summed++;
        if (remote->summed > LM_SUMMED_MOST)
            remote->unsummed_at = 0;
    }
}

/* True when a packet may be forwarded without a UDP checksum: there is no NAT, or such packets have arrived. */
static __always_inline bool passes_unsummed(const struct relay_flow *flow, __u64 now)
{
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->out.remote);
    return !flow->is_bound || (remote && remote->unsummed_at && now < remote->unsummed_at + LM_UNSUMMED_NS);
}

/* True when we may send by this interface in this outer family. */
__noinline int is_ours(struct lm_shared_state *s, __u32 ifindex, __u32 family)
{
    if (!s)
        return 0;
    __u32 key = s->uplinks;
    struct walk walk = {.ifindex = ifindex, .all = bpf_map_lookup_elem(&uplinks, &key)};
    if (!walk.all)
        return 0;
    begin(&walk, family);
    bpf_loop(walk.all->count, is_path, &walk, 0);
    return walk.winner < LM_SHARED_PATHS && walk.all->paths[walk.winner & (LM_SHARED_PATHS - 1)].is_ready;
}

/*
 * Finds the kernel's route for packets from a given address, with its link addresses if they are resolved. 0: the host
 * does not forward, or the interface is not one of ours.
 */
static __always_inline __u32 find_route(struct __sk_buff *skb, struct lm_shared_state *s, struct relay_flow *flow,
                                        struct relay_work *work, __u64 now, bool *has_link)
{
    struct bpf_fib_lookup *route = &work->route;
    const __u8 *head = work->head;
    bool is_v4 = flow->out.is_v4;
    if (now < flow->led_at + LED_FOR_NS) {
        *has_link = true;
        return flow->led_to;
    }
    put_route(route, skb->ifindex, is_v4, head);
    if (is_v4)
        __builtin_memcpy(&route->sport, head + 20, 4);
    else
        __builtin_memcpy(&route->sport, head + 40, 4);
    long found = bpf_fib_lookup(skb, route, sizeof *route, 0);
    if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
        return 0;
    if (route->ifindex != flow->led_to) {
        if (!is_ours(s, route->ifindex, is_v4 ? V4 : V6))
            return 0;
        flow->led_to = route->ifindex;
    }
    *has_link = found == BPF_FIB_LKUP_RET_SUCCESS;
    flow->led_at = *has_link ? now : 0;
    put_link(flow->link, route);
    return route->ifindex;
}

#endif
