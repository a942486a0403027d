/*
 * From the TUN device to the uplinks: the ITR (RFC 9300, section 4), in one thread.
 *
 * What happens to a packet; the functions stand in this order:
 *
 *  1. serve() reads a batch of packets from one queue of the TUN device.
 *  2. admit() parses each packet. It drops and counts what must not enter the tunnel: a source that is no local EID, a
 *     destination that can be no EID, and packets of the tunnel itself.
 *  3. forward() looks the whole batch up in the forwarding table, by longest prefix.
 *  4. dispose() does what the entry says. A packet without an entry waits (pending.c), and a report asks Python for the
 *     mapping.
 *  5. choose() takes the uplink that the packet's mark names, or else one by priority, weight and flow hash. The remote
 *     locator is chosen in the same way.
 *  6. lm_batch_send() writes the LISP and the outer headers and hands runs of packets to the sockets. What does not fit
 *     a path goes one packet at a time (send.c).
 *
 * The thread holds the table lock for reading for one batch, so a change of tables or uplinks waits no longer than
 * that. lm_outbound_retry() sends waiting packets; threads that install mappings or uplinks call it too.
 */
#include <netinet/in.h>
#include <sys/epoll.h>

#include "engine/engine.h"

#define EVENTS 16

static bool is_own(const struct lm_engine *e, const struct lm_addr *address)
{
    return lm_table_lookup(e->eids, 0, address) != NULL;
}

static bool is_lisp_port(uint16_t port)
{
    return port == LM_PORT_DATA || port == LM_PORT_CONTROL;
}

/* True for packets of the tunnel itself and for its control messages: they must not enter the tunnel. */
static bool would_nest(const struct lm_engine *e, const struct lm_inner *inner)
{
    if (lm_table_lookup(e->guard, 0, &inner->destination))
        return true;
    return inner->protocol == IPPROTO_UDP && inner->has_ports &&
           (is_lisp_port(inner->destination_port) || is_lisp_port(inner->source_port)) &&
           lm_uplinks_owns(e->uplinks, &inner->source);
}

bool lm_outbound_admits(const struct lm_engine *e, struct lm_job *job, enum lm_counter *why)
{
    const struct lm_inner *inner = &job->inner;
    const struct lm_entry *own = lm_table_lookup(e->eids, 0, &inner->source);
    job->instance_id = own ? (uint32_t)(uintptr_t)own->value : e->config.proxy_instance_id;
    if (!lm_address_may_be_eid(&inner->destination) || is_own(e, &inner->destination))
        *why = LM_out_notlisp;
    else if (would_nest(e, inner))
        *why = LM_out_guard;
    else if (!own && (!e->config.is_proxy || !lm_address_may_be_eid(&inner->source)))
        *why = LM_out_source;
    else if (inner->ttl == 0)
        *why = LM_out_ttl;
    else
        return true;
    return false;
}

static bool is_for_tunnel(struct lm_engine *e, struct lm_job *job)
{
    enum lm_counter why;
    if (lm_outbound_admits(e, job, &why))
        return true;
    lm_count(&e->counters, why);
    return false;
}

void lm_outbound_miss(struct lm_engine *e, const struct lm_job *job)
{
    const struct lm_inner *inner = &job->inner;
    if (!job->is_retry)
        lm_count(&e->counters, LM_out_pending);
    if (lm_pending_add(e->pending, job->instance_id, &inner->destination, &job->vnet, job->packet, inner->length,
                       job->lane, job->born, job->now) != LM_PENDING_FIRST)
        return;
    struct lm_punt report = {.kind = LM_PUNT_MISS,
                             .instance_id = job->instance_id,
                             .source = inner->source,
                             .destination = inner->destination};
    report.nonce = lm_asking_send(e, job->instance_id, &inner->source, &inner->destination, job->now);
    if (lm_punt_put(&e->punts, &report, NULL, 0))
        lm_count(&e->counters, LM_out_miss);
}

static void refuse(struct lm_engine *e, const struct lm_job *job, enum lm_counter why, enum lm_icmp_kind kind)
{
    lm_count(&e->counters, why);
    lm_send_icmp_about(e, kind, 0, job);
}

void lm_outbound_turn(const struct lm_engine *e, struct lm_job *job)
{
    const struct lm_remote *mapped = job->remote;
    job->remote = lm_path_remote(job->path, job->remote, job->flow);
    if (!job->seal || job->seal->dialect)
        job->seal = lm_dialect_choose(e, job, mapped);
    job->is_nested = job->seal && lm_sealed_out_nests(job, mapped);
}

void lm_outbound_choose(struct lm_engine *e, struct lm_job *job)
{
    /* Chooses the uplink first, so that weights share flows between uplinks, whichever families they have. */
    unsigned families = lm_locator_best_families(job->set, e->uplinks->families);
    int ifindex = lm_uplinks_choose(e->uplinks, families, job->flow);
    families &= lm_uplinks_families(e->uplinks, ifindex, false);
    job->remote = lm_locator_choose(job->set, families, job->flow);
    job->path = job->remote ? lm_uplinks_path(e->uplinks, ifindex, job->remote->address.family) : NULL;
    if (job->path)
        lm_outbound_turn(e, job);
}

/* Chooses locator and uplink of the flow. Without an uplink the job has no path, and lm_send keeps the packet. */
static bool choose(struct lm_engine *e, struct lm_job *job)
{
    if (lm_lane_choose(e, job)) {
        if (!job->copy.path && lm_lane_copies(e, job->lane))
            lm_count_many(&e->counters, LM_out_uncopied, job->segments.count ? job->segments.count : 1);
        return true;
    }
    if (job->lane != LM_LANE_DEFAULT && e->drops_unusable) {
        refuse(e, job, LM_out_mark_drop, LM_ICMP_UNREACHABLE);
        return false;
    }
    if (job->lane != LM_LANE_DEFAULT && !job->is_retry)
        lm_count(&e->counters, LM_out_mark_fallback);
    lm_outbound_choose(e, job);
    if (job->path || (e->uplinks->families == 0 && lm_locator_choose(job->set, LM_V4 | LM_V6, job->flow)))
        return true;
    refuse(e, job, LM_out_nolocator, LM_ICMP_UNREACHABLE);
    return false;
}

/* Parses the packet and checks that it may enter the tunnel; false: it was dropped or handled. */
static bool admit(struct lm_engine *e, struct lm_job *job, const lm_vnet *vnet, uint8_t *packet, size_t length,
                  int lane, uint64_t born, uint64_t now)
{
    *job = (struct lm_job){
        .packet = packet, .vnet = *vnet, .lane = lane, .born = born, .now = now, .is_retry = born != now};
    bool is_plain = !vnet->flags &&
                    vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE; /* its checksums are complete, and it is one packet */
    if ((!is_plain && !lm_segment_complete_vnet(&job->vnet, packet, length)) ||
        !lm_packet_parse(packet, length, &job->inner) ||
        (!is_plain && !lm_segments_read(&job->vnet, packet, &job->inner, &job->segments))) {
        lm_count(&e->counters, LM_out_inner);
        return false;
    }
    return is_for_tunnel(e, job);
}

/* Applies the entry (or its absence) to the packet; true: it is ready to be sent. */
static bool dispose(struct lm_engine *e, struct lm_job *job, struct lm_entry *entry)
{
    if (!entry || entry->kind == LM_MISS) {
        lm_outbound_miss(e, job);
        return false;
    }
    if (!atomic_load_explicit(&entry->used, memory_order_relaxed))
        atomic_store_explicit(&entry->used, 1, memory_order_relaxed);
    if (entry->kind == LM_ENCAPSULATE_AND_REPORT)
        lm_destination_report_sent(e, job);
    if (entry->kind == LM_DOUBT)
        lm_send_icmp_about(e, LM_ICMP_UNREACHABLE, 0, job);
    switch (entry->kind) {
    case LM_DOUBT:
    case LM_ENCAPSULATE_AND_REPORT:
    case LM_ENCAPSULATE:
        job->set = entry->value;
        job->flow = lm_packet_flow_hash(&e->key, &job->inner);
        if ((job->set->wish.peer || job->set->wish.must_seal) && !lm_sealed_out_admit(e, job))
            return false;
        return choose(e, job);
    case LM_NATIVE:
        lm_count(&e->counters, LM_out_native);
        return false;
    case LM_PROHIBIT:
        refuse(e, job, LM_out_drop, LM_ICMP_PROHIBITED);
        return false;
    default:
        refuse(e, job, LM_out_drop, LM_ICMP_UNREACHABLE);
        return false;
    }
}

bool lm_outbound_judge(struct lm_engine *e, struct lm_job *job, const lm_vnet *vnet, uint8_t *packet, size_t length,
                       int lane, uint64_t born, uint64_t now)
{
    return admit(e, job, vnet, packet, length, lane, born, now) &&
           dispose(e, job, lm_table_lookup(e->table, job->instance_id, &job->inner.destination));
}

void lm_outbound_retry(struct lm_engine *e, struct lm_pending *from)
{
    uint8_t *packet = e->scratch + LM_FRAME_HEADROOM;
    int lane;
    uint64_t born, now = lm_clock_now();
    lm_vnet vnet;
    for (size_t length; (length = lm_pending_take(from, &vnet, packet, &lane, &born, now)) > 0;) {
        struct lm_job job;
        if (lm_outbound_judge(e, &job, &vnet, packet, length, lane, born, now))
            lm_send(e, &job);
    }
}

/* Reads up to a batch; returns the number of packets, or -1 when the device is gone. */
static int read_tun(struct lm_engine *e, int fd)
{
    int count = 0;
    for (size_t octets = 0; count < LM_BATCH && octets < LM_BATCH_OCTETS; count++) {
        ssize_t n = lm_device_read(e, fd, &e->out_frames.frame[count]);
        if (n <= 0)
            return count ? count : (int)n;
        octets += (size_t)n;
    }
    return count;
}

_Static_assert(LM_BATCH <= LM_QUERIES_MAX, "a batch is looked up at once");

static void forward(struct lm_engine *e, int fd, int lane, int count)
{
    static _Thread_local struct lm_job jobs[LM_BATCH];
    struct lm_job *ready[LM_BATCH];
    struct lm_query queries[LM_BATCH];
    size_t admitted = 0, ready_count = 0;
    uint64_t now = lm_clock_now();
    uint64_t sent_before = atomic_load_explicit(&e->counters.value[LM_out_packets], memory_order_relaxed);
    uint64_t held_before = atomic_load_explicit(&e->counters.value[LM_out_held], memory_order_relaxed);
    for (int i = 0; i < count; i++) {
        const struct lm_frame *frame = &e->out_frames.frame[i];
        struct lm_job *job = &jobs[admitted];
        if (admit(e, job, &frame->vnet, frame->packet, frame->length, lane, now, now))
            queries[admitted++] = (struct lm_query){job->instance_id, &job->inner.destination, NULL};
    }
    lm_table_lookup_many(e->table, queries, admitted);
    for (size_t i = 0; i < admitted; i++)
        if (dispose(e, &jobs[i], queries[i].entry))
            ready[ready_count++] = &jobs[i];
    lm_batch_send(e, ready, ready_count);
    if (atomic_load_explicit(&e->counters.value[LM_out_held], memory_order_relaxed) != held_before)
        lm_backpressure_pause(e, fd, lane);
    bool has_sent = atomic_load_explicit(&e->counters.value[LM_out_packets], memory_order_relaxed) != sent_before;
    if (has_sent && e->has_stalled) { /* an uplink that had refused works again, which no event reports */
        e->has_stalled = false;
        lm_pending_release(e->stalled, NULL);
        lm_outbound_retry(e, e->stalled);
    }
}

/* Processes one batch of one lane. A descriptor that is no longer a lane may have been reused, so it is not touched. */
static void serve(struct lm_engine *e, int fd)
{
    lm_share(&e->lock);
    const struct lm_lane *lane = lm_lane_find(e, fd);
    int count = lane || fd == e->tun ? read_tun(e, fd) : 0;
    if (count > 0)
        forward(e, fd, lane ? lane->ifindex : LM_LANE_DEFAULT, count);
    if (!lane && fd != e->tun)
        lm_backpressure_on_room(e, fd);
    lm_unshare(&e->lock);
    if (count < 0) {
        lm_count(&e->counters, LM_tun_gone);
        (void)epoll_ctl(e->poll_out, EPOLL_CTL_DEL, fd, NULL);
    }
}

/* Returns the milliseconds until something is due without an event; -1: nothing is. */
static int next_look(struct lm_engine *e)
{
    int when[] = {lm_data_port_stall_timeout(e), lm_silence_timeout(e), lm_backpressure_timeout(e)}, first = -1;
    for (size_t i = 0; i < sizeof when / sizeof *when; i++)
        if (when[i] >= 0 && (first < 0 || when[i] < first))
            first = when[i];
    return first;
}

void *lm_outbound_run(void *engine)
{
    struct lm_engine *e = engine;
    lm_sealed_out_set_thread(0);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(e->poll_out, events, EVENTS, next_look(e));
        lm_data_port_stall_check(e);
        lm_silence_check(e);
        lm_backpressure_check(e);
        lm_sealed_out_check(e);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == e->stop)
                return NULL;
            serve(e, events[i].data.fd);
        }
    }
}
