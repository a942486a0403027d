/*
 * From an uplink to an uplink (tc, ingress of an Ethernet uplink of an RTR): the fast path of nat/rtr.c.
 *
 * It takes a packet if the sender is registered and was seen at this place before, the destination is registered, and
 * there is nothing to report. It replaces the outer header and the LISP header in place and decrements the TTL of the
 * inner packet. A super-packet stays one. All other packets go on to the UDP socket, where the tun tier checks, counts
 * and reports.
 */
#include "lib/relay_flow.h"

#define RUN_MOST 128u /* datagrams that the kernel accepts in one piece (UDP_MAX_SEGMENTS) */

/* One walk over the datagrams of a run. */
struct run_walk {
    struct __sk_buff *skb;
    struct relay_work *work;
    __u32 has_begun, has_failed;
};

static __always_inline __u32 run_at(const struct arrival *a, __u32 number)
{
    return a->offset - LM_DATA_HEADER + number * a->run;
}

/* Octets of one datagram of a run, including its LISP header. */
static __always_inline __u32 run_size(const struct __sk_buff *skb, const struct arrival *a, __u32 number)
{
    __u32 rest = skb->len - run_at(a, number);
    return rest < a->run ? rest : a->run;
}

/* Checks that the datagram has the same flow, flags, TOS and TTL as the first one. */
static long is_like_first(__u32 i, struct run_walk *walk)
{
    struct relay_work *work = walk->work;
    const struct arrival *a = &work->a;
    __u32 at = run_at(a, i + 1), size = run_size(walk->skb, a, i + 1);
    __u8 start[LM_DATA_HEADER + 48] = {};
    struct inner inner;
    __u64 words[5];
    long error = a->inner.is_v4 ? bpf_skb_load_bytes(walk->skb, at, start, LM_DATA_HEADER + 28)
                                : bpf_skb_load_bytes(walk->skb, at, start, LM_DATA_HEADER + 48);
    if (error || size < LM_DATA_HEADER + 28 ||
        !read_inner(start + LM_DATA_HEADER, start + sizeof start, size - LM_DATA_HEADER, &inner, words)) {
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

/* Parses several datagrams of one flow in a row: the threads of a node send them so, and GRO joins them so. */
static __always_inline bool read_run(struct __sk_buff *skb, const __u8 *data, const __u8 *end, struct relay_work *work)
{
    struct arrival *a = &work->a;
    const __u8 *packet = read_lisp(skb, data, end, a);
    __u32 size = skb->gso_size;
    if (!packet || size < LM_DATA_HEADER + 28 || !a->outer.sum || !a->outer.is_v4 ||
        !read_inner(packet, end, size - LM_DATA_HEADER, &a->inner, a->words))
        return false;
    __u32 octets = skb->len - a->offset + LM_DATA_HEADER;
    a->run = size;
    a->segments = (octets + size - 1) / size;
    struct run_walk walk = {.skb = skb, .work = work};
    if (octets <= size || a->segments > RUN_MOST)
        return false;
    bpf_loop(a->segments - 1, is_like_first, &walk, 0);
    return !walk.has_failed;
}

/*
 * Starts with the last datagram: writing there makes the whole packet linear, which may fail for lack of memory while
 * nothing has changed yet.
 */
static long store_in_run(__u32 i, struct run_walk *walk)
{
    struct relay_work *work = walk->work;
    const struct arrival *a = &work->a;
    __u32 at = run_at(a, a->segments - 1 - i);
    __u8 start[LM_DATA_HEADER + 20] __attribute__((aligned(4)));
    if (bpf_skb_load_bytes(walk->skb, at, start, sizeof start)) {
        walk->has_failed = 1;
        return 1;
    }
    __builtin_memcpy(start, work->head + LM_OUTER_V4 - LM_DATA_HEADER, LM_DATA_HEADER);
    write_carried(work->inner, a->inner.is_v4, &work->carried, start + LM_DATA_HEADER);
    __builtin_memcpy(start + LM_DATA_HEADER, work->inner, CARRIED_V6);
    if (a->inner.is_v4)
        __builtin_memcpy(start + LM_DATA_HEADER + CARRIED_V6, work->inner + CARRIED_V6, CARRIED_V4 - CARRIED_V6);
    if (bpf_skb_store_bytes(walk->skb, at, start, sizeof start, 0)) {
        walk->has_failed = 1;
        return 1;
    }
    walk->has_begun = 1;
    return 0;
}

/* Updates the checksum of an outer IPv4 packet whose header becomes `head`; `inner` is the change of the sum inside. */
static __always_inline bool put_sum(struct __sk_buff *skb, const __u8 *data, const __u8 *end, __u8 *head, __u32 inner)
{
    __u32 old[LM_OUTER_V4 / 4];
    if (data + ETH_HLEN + LM_OUTER_V4 > end)
        return false;
    __builtin_memcpy(old, data + ETH_HLEN, sizeof old);
    __u32 *now = (__u32 *)(void *)head, at = ETH_HLEN + 26;
    __s64 pseudo = bpf_csum_diff(old + 3, 8, now + 3, 8, 0);
    __s64 rest = bpf_csum_diff(old + 5, 4, now + 5, 4, inner);
    rest = bpf_csum_diff(old + 7, 8, now + 7, 8, (__u32)rest);
    return bpf_l4_csum_replace(skb, at, 0, (__u64)pseudo, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) == 0 &&
           bpf_l4_csum_replace(skb, at, 0, (__u64)rest, BPF_F_MARK_MANGLED_0) == 0;
}

/* Writes the new outer header; with `sum` the UDP checksum stays in place. */
static __always_inline bool put_outer(struct __sk_buff *skb, bool is_v4, const __u8 *head, bool sum)
{
    if (sum) /* an IPv4 packet; the checksum already includes the changes */
        return bpf_skb_store_bytes(skb, ETH_HLEN, head, 26, 0) == 0 &&
               bpf_skb_store_bytes(skb, ETH_HLEN + 28, head + 28, 8, 0) == 0;
    return is_v4 ? bpf_skb_store_bytes(skb, ETH_HLEN, head, LM_OUTER_V4, BPF_F_RECOMPUTE_CSUM) == 0
                 : bpf_skb_store_bytes(skb, ETH_HLEN, head, LM_OUTER_V6, BPF_F_RECOMPUTE_CSUM) == 0;
}

/* Writes `work` over the packet; false: no memory. */
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

/* Sends an accepted packet; returns the verdict. */
__noinline int pass_on(struct __sk_buff *skb, struct lm_shared_state *s, struct relay_flow *flow,
                       struct relay_work *work)
{
    if (!s || !flow || !work)
        return FALL_THROUGH;
    __u32 cpu = bpf_get_smp_processor_id();
    struct lm_shared_counts *count = bpf_map_lookup_elem(&counts, &cpu);
    const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    const struct arrival *a = &work->a;
    bool has_link = false, is_good = true;
    const __u8 *packet = data + (a->outer.is_v4 ? ETH_HLEN + LM_OUTER_V4 : ETH_HLEN + LM_OUTER_V6);
    __u32 length = skb->len - a->offset, size = length, octets = length + (a->segments - 1) * a->repeated;
    if (a->run) {
        size = a->run - LM_DATA_HEADER;
        octets = length - (a->segments - 1) * LM_DATA_HEADER;
    } else if (a->segments > 1) {
        size = a->repeated + skb->gso_size;
    }
    __u8 tos = lm_rules_outer_tos(work->carried.tos, s->copy_dscp);
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
        packet = data + ETH_HLEN + LM_OUTER_V4;
        if (packet + 20 > end)
            is_good = false;
    }

    /* From here on the packet cannot fall through. */
    if (is_good)
        is_good = rewrite(skb, work, flow, data, end, packet, has_link);
    if (!is_good) {
        count->lost++;
        return 2; /* TCX_DROP, TC_ACT_SHOT: no memory */
    }
    skb->mark = s->mark;
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &flow->out.remote);
    if (remote) {
        __sync_fetch_and_add(&remote->sent, a->segments);
        __sync_fetch_and_add(&remote->sent_octets, octets);
    }
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
    /* In a packet that a socket sent in one piece, programs can read only the outer headers. */
    if (skb->gso_size && data + HEADERS_MOST > end) {
        (void)bpf_skb_pull_data(skb, HEADERS_MOST);
        data = (void *)(long)skb->data;
        end = (void *)(long)skb->data_end;
    }
    struct arrival *a = &work->a;
    struct lm_carried *carried = &work->carried;
    if (!read_outer(skb, data, end, &a->outer) || a->outer.port != s->data_port ||
        !(read_arrival(skb, data, end, a) || (skb->gso_size && read_run(skb, data, end, work))) ||
        a->instance_id != s->relayed_instance_id)
        return FALL_THROUGH;
    struct relay_flow *flow = relay_flow_of(s, a);
    __u64 now = bpf_ktime_get_ns();
    if (!flow)
        return FALL_THROUGH;
    if (flow->is_registered)
        note_sum(flow, a->outer.sum != 0, now);
    if (flow->out.is_passed || !carry(s, a, carried) || carried->ttl <= 1 ||
        (a->outer.sum ? !a->outer.is_v4 : !passes_unsummed(flow, now)))
        return FALL_THROUGH;
    if ((a->flags & LM_FLAG_L) && (!flow->has_status || flow->status != a->second)) {
        flow->status = a->second;
        flow->has_status = 1;
        return FALL_THROUGH;
    }
    carried->ttl--;
    return pass_on(skb, s, flow, work);
}
