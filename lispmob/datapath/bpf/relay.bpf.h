/*
 * From an uplink to an uplink (tc, ingress of an Ethernet uplink of an RTR): nat/rtr.c once more, for what is clear. The
 * sender is registered and has been seen at this place before, the destination is registered, and nothing is to be
 * reported. Then the outer header and the LISP header are replaced where they are, the inner packet gets one hop older,
 * and a super-packet stays one. All else goes on to the UDP socket, where the tun tier judges, counts and reports.
 */
#ifndef LM_RELAY_BPF_H
#define LM_RELAY_BPF_H

#include "decap.bpf.h"

#define RELAY_FLOWS 1024
#define LED_FOR_NS 1000000u /* ours: a route that has changed is used for so long still, as by a socket that is just sending */
#define HEADERS_MOST (ETH_HLEN + OUTER_V6 + 48u)
#define AF_INET 2
#define AF_INET6 10

/* Who sends to whom through which tunnel, once it was found to be welcome, and how it leaves. */
struct relay_flow {
    struct out_flow out; /* `words` are those of the inner packet */
    __u64 outer[5];      /* addresses, ports and interface by which it comes */
    __u32 is_welcome;    /* comes from where its inner source is known to be */
    __u32 sender;        /* a remote at the outer source address; LM_NO_REMOTE: none is known */
    __u32 is_bound;      /* leaves from a given address and port: routes decide by which interface */
    __u32 led_to;        /* the last interface that they did, when it is one of ours; 0: none yet */
    __u64 led_at;        /* when they did with link addresses, and which: good for a moment; 0: not */
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

/* What is put together for one packet: more than the stack has room for. */
struct relay_work {
    struct arrival a;
    struct carried carried;
    struct bpf_fib_lookup route;
    __u8 head[OUTER_V6] __attribute__((aligned(8)));
    __u8 inner[CARRIED_V4] __attribute__((aligned(4)));
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct relay_work);
} relay_work SEC(".maps");

/* A remote of the set at this address, that at the port if there is one; false: none of its locators has the address. */
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

/* True when the tun tier has seen this inner source come from there, and reported what was to be reported. */
static __always_inline bool is_known_origin(const struct outer *outer, bool is_v4, const __u64 source[2])
{
    struct lm_shared_origin origin = {.inner = make_address(is_v4, source[0], source[1]),
                                      .outer = make_address(outer->is_v4, outer->source[0], outer->source[1]),
                                      .port = outer->source_port};
    return bpf_map_lookup_elem(&origins, &origin) != NULL;
}

/* True when the sender is not this host itself (source.c, lm_source_is_local), and the packet is to an RLOC of ours. */
static __always_inline bool is_from_outside(const struct outer *outer)
{
    bool is_v4 = outer->is_v4;
    struct lm_trie_value *near = find(LM_SPACE_NEAR, is_v4, 0, outer->source[0], outer->source[1]);
    return !(near && near->value == NEAR_OWN) && lm_may_be_eid(is_v4, outer->source[0], outer->source[1]) &&
           !find(LM_SPACE_RLOCS, is_v4, 0, outer->source[0], outer->source[1]) &&
           !find(LM_SPACE_EIDS, is_v4, 0, outer->source[0], outer->source[1]) &&
           find(LM_SPACE_RLOCS, is_v4, 0, outer->destination[0], outer->destination[1]);
}

/* inbound.c, judge(), for a proxy; rtr.c, lm_rtr_note(). */
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
    flow->is_welcome = 0;
    if (find(LM_SPACE_EIDS, is_v4, 0, to[0], to[1]) || !lm_may_be_eid(is_v4, to[0], to[1]) ||
        find(LM_SPACE_EIDS, is_v4, 0, source[0], source[1]) || !lm_may_be_eid(is_v4, source[0], source[1]) ||
        find(LM_SPACE_RLOCS, is_v4, 0, source[0], source[1]) || !is_from_outside(&a->outer))
        return 0;
    struct lm_trie_value *entry = find(LM_SPACE_TABLE, is_v4, a->instance_id, source[0], source[1]);
    struct lm_shared_set *set = entry && entry->kind == ENCAPSULATES ? bpf_map_lookup_elem(&sets, &entry->value) : NULL;
    if (!set || !find_sender(set, &a->outer, &flow->sender))
        return 0;
    if (set->is_translated && !is_known_origin(&a->outer, is_v4, source)) {
        flow->out.generation--; /* the tun tier sees this packet, and tells: the next one is judged anew */
        return 0;
    }
    struct lm_shared_heard way = {
        .source = make_address(outer_v4, a->outer.source[0], a->outer.source[1]),
        .local = make_address(outer_v4, a->outer.destination[0], a->outer.destination[1])};
    bpf_map_update_elem(&heard, &way, &none, BPF_ANY);
    flow->is_welcome = 1;
    return 0;
}

/* How it leaves: rtr.c, lm_rtr_take(). It stays in its outer family. */
static __always_inline bool choose_onward(struct lm_shared_state *s, struct relay_flow *flow, const struct arrival *a)
{
    bool is_v4 = a->inner.is_v4;
    __u64 to[2] = {is_v4 ? (__u32)a->words[1] : a->words[3], a->words[4]};
    struct out_flow *out = &flow->out;
    __u32 key = s->uplinks;
    struct way way = {};
    struct lm_shared_set *set = destination_of(is_v4, a->instance_id, to);
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
    if (flow->is_welcome)
        decide_onward(s, flow, a);
    return flow;
}

/* Data came, without a UDP checksum: it may leave so for there, too. Or with one: maybe it must not. */
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

/* True when a packet without a UDP checksum may leave as it is: without a NAT all of ours do, elsewhere some have come. */
static __always_inline bool passes_unsummed(const struct relay_flow *flow, __u64 now)
{
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->out.remote);
    return !flow->is_bound || (remote && remote->unsummed_at && now < remote->unsummed_at + LM_UNSUMMED_NS);
}

#define RUN_MOST 128u /* datagrams that the kernel takes in one piece (UDP_MAX_SEGMENTS) */
#define LISP_HEADER 8u

/* One walk over the datagrams of a run. */
struct run_walk {
    struct __sk_buff *skb;
    struct relay_work *work;
    __u32 has_begun, has_failed;
};

static __always_inline __u32 run_at(const struct arrival *a, __u32 number)
{
    return a->offset - LISP_HEADER + number * a->run;
}

/* Octets of one datagram of a run, LISP header and all. */
static __always_inline __u32 run_size(const struct __sk_buff *skb, const struct arrival *a, __u32 number)
{
    __u32 rest = skb->len - run_at(a, number);
    return rest < a->run ? rest : a->run;
}

/* The other datagrams have to be of the same flow, and marked alike. */
static long is_like_first(__u32 i, struct run_walk *walk)
{
    struct relay_work *work = walk->work;
    const struct arrival *a = &work->a;
    __u32 at = run_at(a, i + 1), size = run_size(walk->skb, a, i + 1);
    __u8 start[LISP_HEADER + 48] = {};
    struct inner inner;
    __u64 words[5];
    long error = a->inner.is_v4 ? bpf_skb_load_bytes(walk->skb, at, start, LISP_HEADER + 28)
                                : bpf_skb_load_bytes(walk->skb, at, start, LISP_HEADER + 48);
    if (error || size < LISP_HEADER + 28 ||
        !read_inner(start + LISP_HEADER, start + sizeof start, size - LISP_HEADER, &inner, words)) {
        walk->has_failed = 1;
        return 1;
    }
    __u64 differs = (start[0] ^ a->flags) | (get32(start + 4) ^ a->second) | (inner.tos ^ a->inner.tos) |
                    (inner.ttl ^ a->inner.ttl);
    for (int k = 0; k < 5; k++)
        differs |= words[k] ^ a->words[k];
    if (!differs)
        return 0;
    walk->has_failed = 1;
    return 1;
}

/* Several datagrams in a row of one flow, as a node's threads send them, or as a receiver has joined them (GRO). */
static __always_inline bool read_run(struct __sk_buff *skb, const __u8 *data, const __u8 *end, struct relay_work *work)
{
    struct arrival *a = &work->a;
    const __u8 *packet = read_lisp(skb, data, end, a);
    __u32 size = skb->gso_size;
    if (!packet || size < LISP_HEADER + 28 || !a->outer.sum || !a->outer.is_v4 ||
        !read_inner(packet, end, size - LISP_HEADER, &a->inner, a->words))
        return false;
    __u32 octets = skb->len - a->offset + LISP_HEADER;
    a->run = size;
    a->segments = (octets + size - 1) / size;
    struct run_walk walk = {.skb = skb, .work = work};
    if (octets <= size || a->segments > RUN_MOST)
        return false;
    bpf_loop(a->segments - 1, is_like_first, &walk, 0);
    return !walk.has_failed;
}

/* The last first: to write there is to have all in one piece, for which there may be no memory, and nothing has changed yet. */
static long store_in_run(__u32 i, struct run_walk *walk)
{
    struct relay_work *work = walk->work;
    const struct arrival *a = &work->a;
    __u32 at = run_at(a, a->segments - 1 - i);
    __u8 start[LISP_HEADER + 20] __attribute__((aligned(4)));
    if (bpf_skb_load_bytes(walk->skb, at, start, sizeof start)) {
        walk->has_failed = 1;
        return 1;
    }
    __builtin_memcpy(start, work->head + OUTER_V4 - LISP_HEADER, LISP_HEADER);
    write_carried(work->inner, a->inner.is_v4, &work->carried, start + LISP_HEADER);
    __builtin_memcpy(start + LISP_HEADER, work->inner, CARRIED_V6);
    if (a->inner.is_v4)
        __builtin_memcpy(start + LISP_HEADER + CARRIED_V6, work->inner + CARRIED_V6, CARRIED_V4 - CARRIED_V6);
    if (bpf_skb_store_bytes(walk->skb, at, start, sizeof start, 0)) {
        walk->has_failed = 1;
        return 1;
    }
    walk->has_begun = 1;
    return 0;
}

/* True when an interface is one that we may send by, in this outer family. */
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
 * Where the kernel leads what leaves from a given address, and with which link addresses, unless it has to ask for them
 * first. 0: it does not say, as on a host that does not forward, or the interface is none of ours.
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
    __builtin_memset(route, 0, sizeof *route);
    route->ifindex = skb->ifindex;
    route->l4_protocol = IPPROTO_UDP;
    if (is_v4) {
        route->family = AF_INET;
        __builtin_memcpy(&route->ipv4_src, head + 12, 4);
        __builtin_memcpy(&route->ipv4_dst, head + 16, 4);
        __builtin_memcpy(&route->sport, head + 20, 4);
    } else {
        route->family = AF_INET6;
        __builtin_memcpy(route->ipv6_src, head + 8, 16);
        __builtin_memcpy(route->ipv6_dst, head + 24, 16);
        __builtin_memcpy(&route->sport, head + 40, 4);
    }
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
    __builtin_memcpy(flow->link, route->dmac, 6);
    __builtin_memcpy(flow->link + 6, route->smac, 6);
    return route->ifindex;
}

/* Mends the checksum of an outer IPv4 packet whose header becomes `head`; `inner` is how much the sum changes inside. */
static __always_inline bool put_sum(struct __sk_buff *skb, const __u8 *data, const __u8 *end, __u8 *head, __u32 inner)
{
    __u32 old[OUTER_V4 / 4];
    if (data + ETH_HLEN + OUTER_V4 > end)
        return false;
    __builtin_memcpy(old, data + ETH_HLEN, sizeof old);
    __u32 *now = (__u32 *)(void *)head, at = ETH_HLEN + 26;
    __s64 pseudo = bpf_csum_diff(old + 3, 8, now + 3, 8, 0);
    __s64 rest = bpf_csum_diff(old + 5, 4, now + 5, 4, inner);
    rest = bpf_csum_diff(old + 7, 8, now + 7, 8, (__u32)rest);
    return bpf_l4_csum_replace(skb, at, 0, (__u64)pseudo, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) == 0 &&
           bpf_l4_csum_replace(skb, at, 0, (__u64)rest, BPF_F_MARK_MANGLED_0) == 0;
}

/* Puts the new outer header, with `sum` the UDP checksum stays as it is there. */
static __always_inline bool put_outer(struct __sk_buff *skb, bool is_v4, const __u8 *head, bool sum)
{
    if (sum) /* an IPv4 packet; what changes has been taken into the checksum already */
        return bpf_skb_store_bytes(skb, ETH_HLEN, head, 26, 0) == 0 &&
               bpf_skb_store_bytes(skb, ETH_HLEN + 28, head + 28, 8, 0) == 0;
    return is_v4 ? bpf_skb_store_bytes(skb, ETH_HLEN, head, OUTER_V4, BPF_F_RECOMPUTE_CSUM) == 0
                 : bpf_skb_store_bytes(skb, ETH_HLEN, head, OUTER_V6, BPF_F_RECOMPUTE_CSUM) == 0;
}

/* Writes what is in `work` over the packet; false: there is no memory. */
static __always_inline bool rewrite(struct __sk_buff *skb, struct relay_work *work, const struct relay_flow *flow,
                                    const __u8 *data, const __u8 *end, const __u8 *packet, bool has_link)
{
    const struct arrival *a = &work->a;
    bool outer_v4 = a->outer.is_v4, inner_v4 = a->inner.is_v4, has_sum = a->outer.sum != 0;
    __s64 changed = 0;
    if (packet + 20 > end)
        return false;
    if (!a->run)
        write_carried(work->inner, inner_v4, &work->carried, packet);
    if (!a->run && !inner_v4) {
        __u32 before[CARRIED_V6 / 4];
        __builtin_memcpy(before, packet, sizeof before);
        changed = bpf_csum_diff(before, CARRIED_V6, (__u32 *)(void *)work->inner, CARRIED_V6, 0);
    }
    return (!has_sum || put_sum(skb, data, end, work->head, (__u32)changed)) &&
           (a->run || store_carried(skb, inner_v4, work->inner, a->offset)) &&
           put_outer(skb, outer_v4, work->head, has_sum) &&
           (!has_link || bpf_skb_store_bytes(skb, 0, flow->link, sizeof flow->link, 0) == 0);
}

/* Sends what has been judged; the verdict. */
__noinline int pass_on(struct __sk_buff *skb, struct lm_shared_state *s, struct relay_flow *flow, struct relay_work *work)
{
    if (!s || !flow || !work)
        return FALL_THROUGH;
    __u32 cpu = bpf_get_smp_processor_id();
    struct lm_shared_counts *count = bpf_map_lookup_elem(&counts, &cpu);
    const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    const struct arrival *a = &work->a;
    bool has_link = false, is_good = true;
    const __u8 *packet = data + (a->outer.is_v4 ? ETH_HLEN + OUTER_V4 : ETH_HLEN + OUTER_V6);
    __u32 length = skb->len - a->offset, size = length, octets = length + (a->segments - 1) * a->repeated;
    if (a->run) {
        size = a->run - LISP_HEADER;
        octets = length - (a->segments - 1) * LISP_HEADER;
    } else if (a->segments > 1) {
        size = a->repeated + skb->gso_size;
    }
    __u8 tos = s->copy_dscp ? work->carried.tos : work->carried.tos & 3;
    __u64 now = bpf_ktime_get_ns();
    if (!count || size > flow->out.room || packet + 20 > end)
        return FALL_THROUGH;
    __builtin_memcpy(work->head, flow->out.head, sizeof work->head);
    finish_head(work->head, &flow->out, length, tos, work->carried.ttl);
    __u32 ifindex = flow->is_bound ? find_route(skb, s, flow, work, now, &has_link) : flow->out.ifindex;
    if (!ifindex ||
        is_for_report(s, flow->out.path, flow->out.remote, flow->out.is_whole, now, octets, size >= flow->out.large))
        return FALL_THROUGH;
    if (a->run) {
        struct run_walk walk = {.skb = skb, .work = work};
        bpf_loop(a->segments, store_in_run, &walk, 0);
        if (!walk.has_begun)
            return FALL_THROUGH;
        is_good = !walk.has_failed;
        data = (void *)(long)skb->data;
        end = (void *)(long)skb->data_end;
        packet = data + ETH_HLEN + OUTER_V4;
        if (packet + 20 > end)
            is_good = false;
    }

    /* From here on there is no way back. */
    if (is_good)
        is_good = rewrite(skb, work, flow, data, end, packet, has_link);
    if (!is_good) {
        count->lost++;
        return 2; /* TCX_DROP, TC_ACT_SHOT: no memory */
    }
    skb->mark = s->mark;
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->out.remote);
    if (remote)
        __sync_fetch_and_add(&remote->sent, a->segments);
    count->out_packets += a->segments;
    count->out_octets += octets;
    s->traffic[0].last = now;
    return (int)(has_link ? bpf_redirect(ifindex, 0) : bpf_redirect_neigh(ifindex, NULL, 0, 0));
}

SEC("tc")
int lm_relay(struct __sk_buff *skb)
{
    __u32 zero = 0;
    const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct lm_shared_state *s = bpf_map_lookup_elem(&state, &zero);
    struct relay_work *work = bpf_map_lookup_elem(&relay_work, &zero);
    if (!s || !work || !s->is_on || skb->pkt_type != 0 || skb->vlan_present)
        return FALL_THROUGH;
    /* Of what a socket has sent in one go only the outer headers are where a program can read them. */
    if (skb->gso_size && data + HEADERS_MOST > end) {
        (void)bpf_skb_pull_data(skb, HEADERS_MOST);
        data = (void *)(long)skb->data;
        end = (void *)(long)skb->data_end;
    }
    struct arrival *a = &work->a;
    struct carried *carried = &work->carried;
    if (!read_outer(skb, data, end, &a->outer) || a->outer.port != s->data_port ||
        !(read_arrival(skb, data, end, a) || (skb->gso_size && read_run(skb, data, end, work))) ||
        a->instance_id != s->relayed_instance_id)
        return FALL_THROUGH;
    struct relay_flow *flow = relay_flow_of(s, a);
    __u64 now = bpf_ktime_get_ns();
    if (!flow)
        return FALL_THROUGH;
    if (flow->is_welcome)
        note_sum(flow, a->outer.sum != 0, now);
    if (flow->out.is_passed || !carry(s, a, carried) || carried->ttl <= 1 ||
        (a->outer.sum ? !a->outer.is_v4 : !passes_unsummed(flow, now)))
        return FALL_THROUGH;
    if ((a->flags & LISP_FLAG_L) && (!flow->has_status || flow->status != a->second)) {
        flow->status = a->second;
        flow->has_status = 1;
        return FALL_THROUGH;
    }
    carried->ttl--;
    return pass_on(skb, s, flow, work);
}

#endif
