/*
 * Sends ICMP errors about packets that cannot be sent: to the host, or for a relayed packet to its source through the
 * tunnel.
 */
#include "engine/engine.h"
#include "seal/sealed_out.h"

#define ICMP_PER_SECOND 100
#define ICMP_BURST 50

void lm_send_icmp(struct lm_engine *e, enum lm_icmp_kind kind, uint32_t mtu, const uint8_t *packet,
                  const struct lm_inner *inner, uint64_t now)
{
    /* The host drops packets from its own address, so errors about our own packets come from the destination. */
    const struct lm_addr *ours = &e->icmp_source[inner->version == 6];
    bool is_own = lm_table_lookup(e->eids, 0, &inner->source) != NULL;
    uint8_t error[LM_ICMP_MAX];
    size_t length =
        lm_icmp_build(error, kind, mtu, ours->family && !is_own ? ours : &inner->destination, packet, inner);
    if (length == 0)
        lm_count(&e->counters, LM_icmp_forbidden);
    else if (!lm_token_bucket_take(&e->icmp_bucket, now, ICMP_PER_SECOND, ICMP_BURST))
        lm_count(&e->counters, LM_icmp_limited);
    else
        lm_count(&e->counters, lm_device_write(e, e->tun, error, length) ? LM_icmp_sent : LM_in_refused);
}

/*
 * Sends the error to the source of a relayed packet, which is also behind a locator of the table. The kernel need not
 * forward.
 */
static void relay_icmp(struct lm_engine *e, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_job *about)
{
    uint8_t room[LM_FRAME_HEADROOM + LM_ICMP_MAX];
    struct lm_job job = {.packet = room + LM_FRAME_HEADROOM,
                         .instance_id = about->instance_id,
                         .lane = LM_LANE_DEFAULT,
                         .now = about->now,
                         .born = about->now,
                         .is_relayed = true,
                         .is_own = true};
    size_t length = lm_icmp_build(job.packet, kind, mtu, &about->inner.destination, about->packet, &about->inner);
    if (length == 0 || !lm_packet_parse(job.packet, length, &job.inner)) {
        lm_count(&e->counters, LM_icmp_forbidden);
        return;
    }
    if (!lm_token_bucket_take(&e->relayed_icmp_bucket, job.now, ICMP_PER_SECOND, ICMP_BURST)) {
        lm_count(&e->counters, LM_icmp_limited);
        return;
    }
    struct lm_entry *entry = lm_table_lookup(e->table, job.instance_id, &job.inner.destination);
    if (entry && entry->kind == LM_ENCAPSULATE) {
        job.set = entry->value;
        job.flow = lm_packet_flow_hash(&e->key, &job.inner);
        if (!lm_sealed_out_admit(e, &job))
            return;
        lm_outbound_choose(e, &job);
    }
    bool is_sent = job.path ? lm_send_by_path(e, &job) : lm_device_write(e, e->tun, job.packet, length);
    lm_count(&e->counters, is_sent ? LM_icmp_sent : LM_in_refused);
}

void lm_send_icmp_about(struct lm_engine *e, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_job *job)
{
    struct lm_job first = *job;
    if (job->segments.count)
        first = lm_send_segments(e, job, 0);
    if (job->is_relayed) {
        relay_icmp(e, kind, mtu, &first);
        return;
    }
    lm_send_icmp(e, kind, mtu, first.packet, &first.inner, job->now);
}
