/*
 * All that follows from sending a packet, in one place. Each line makes a cheap check, and calls a function only if
 * there is something to record: an ordinary packet of an ordinary flow costs a few loads.
 *
 * The caller holds the lock shared. `job` is the first of `packets` that were sent in one message, with `octets` of
 * inner packets in all. The largest inner packet has `largest` octets.
 */
#ifndef LM_ON_SENT_H
#define LM_ON_SENT_H

#include <netinet/in.h>

#include "engine/engine.h"
#include "liveness/peer_check.h"

/* Records for one path and locator of a job; a job with two paths calls it twice. */
static inline void lm_on_sent_way(struct lm_engine *e, const struct lm_job *job, size_t octets)
{
    lm_path_proven(e, job->path); /* the BPF programs may use it */
    if (e->mirror && job->remote->address.family == 6)
        lm_route_check_tell(e, job->path, job->remote);
    if (!job->path->is_whole && job->now >= atomic_load_explicit(&job->remote->state->check_at, memory_order_relaxed))
        lm_peer_check_on_sent(e, job);
    if (job->path->relays && octets) /* an empty packet need not be answered */
        lm_data_port_stall_sent(e, job->path, job->now);
}

static inline void lm_on_sent(struct lm_engine *e, const struct lm_job *job, size_t packets, size_t octets,
                              size_t largest)
{
    struct lm_remote_state *remote = job->remote->state;
    if (!job->is_own) {
        lm_traffic_gap_note(e, LM_OUTBOUND, job->now);
        atomic_fetch_add_explicit(&remote->sent, packets, memory_order_relaxed);
        atomic_fetch_add_explicit(&remote->sent_octets, octets, memory_order_relaxed);
        lm_count_many(&e->counters, LM_out_packets, packets);
        lm_count_many(&e->counters, LM_out_octets, octets);
        if (atomic_load_explicit(&remote->silence.quick, memory_order_relaxed))
            lm_silence_on_sent(e, job, octets);
        if (job->inner.protocol == IPPROTO_TCP && !job->is_relayed)
            lm_last_packet_note(e, job);
    }
    lm_on_sent_way(e, job, octets);
    if (atomic_load_explicit(&e->shared->reports_large, memory_order_relaxed))
        lm_path_mtu_note_large(e, job, largest);
}

#endif
