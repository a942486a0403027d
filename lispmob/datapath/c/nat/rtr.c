/*
 * The RTR: sends packets from an uplink that are for a table entry by an uplink, without the kernel.
 *
 * A packet that does not fit, or whose destination is not registered, goes to the TUN device. The kernel routes it to
 * the outbound thread, which can fragment and ask for mappings, or to the rest of the Internet.
 */
#include <stdlib.h>

#include "engine/engine.h"

#define PLACES 4096u /* a power of two */
#define PORTS 4      /* per node and translated address: a symmetric NAT uses one for each destination */
#define REPORTS_PER_SECOND 200
#define REPORT_BURST 50
#define ORIGINS_PER_SECOND                                                                                             \
    2000 /* packets that the BPF programs pass up for other reasons say nothing new about their origin */
#define ORIGIN_BURST 500

struct place {
    struct lm_addr inner, outer;
    uint32_t instance_id;
    uint16_t ports[PORTS];
    uint8_t next;
};

struct lm_relay {
    struct place places[PLACES]; /* by a hash: a collision of two nodes costs one more report each */
    struct lm_token_bucket reports, origins;
    struct lm_job jobs[LM_BATCH];
    size_t count;
};

struct lm_relay *lm_rtr_new(void)
{
    return calloc(1, sizeof(struct lm_relay));
}

void lm_rtr_free(struct lm_relay *relay)
{
    free(relay);
}

static bool is_translated(const struct lm_locator_set *set)
{
    for (size_t i = 0; set && i < set->count; i++)
        if (set->specs[i].source.family)
            return true;
    return false;
}

/* True when this node has sent from other ports, and not from this one. */
static bool is_new_port(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer)
{
    const struct lm_addr *inner = &data->inner.source;
    uint64_t words[4] = {lm_get64(inner->octets), lm_get64(inner->octets + 8), lm_get64(outer->source.octets),
                         lm_get64(outer->source.octets + 8)};
    struct place *place = &e->relay->places[lm_hash(&e->key, words, 4) % PLACES];
    if (place->instance_id != data->instance_id || !lm_addr_equal(&place->inner, inner) ||
        !lm_addr_equal(&place->outer, &outer->source)) {
        *place = (struct place){.inner = *inner,
                                .outer = outer->source,
                                .instance_id = data->instance_id,
                                .ports = {outer->source_port},
                                .next = 1};
        return false;
    }
    for (size_t i = 0; i < PORTS; i++)
        if (place->ports[i] == outer->source_port)
            return false;
    place->ports[place->next++ % PORTS] = outer->source_port;
    return true;
}

void lm_rtr_note(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer, bool is_registered)
{
    if (is_registered) {
        const struct lm_entry *sender = lm_table_lookup(e->table, data->instance_id, &data->inner.source);
        if (!sender || !is_translated(sender->value))
            return;
        bool is_new = is_new_port(e, data, outer);
        if (e->mirror && lm_token_bucket_take(&e->relay->origins, outer->now, ORIGINS_PER_SECOND, ORIGIN_BURST))
            lm_mirror_origin(e->mirror, &data->inner.source, &outer->source, outer->source_port);
        if (!is_new)
            return;
    }
    if (!lm_address_may_be_eid(&data->inner.source) ||
        !lm_token_bucket_take(&e->relay->reports, outer->now, REPORTS_PER_SECOND, REPORT_BURST))
        return;
    struct lm_punt report = {.kind = LM_PUNT_UNREGISTERED,
                             .instance_id = data->instance_id,
                             .source = data->inner.source,
                             .destination = data->inner.destination,
                             .outer_source = outer->source,
                             .outer_source_port = outer->source_port,
                             .outer_destination = outer->destination,
                             .is_registered = is_registered,
                             .is_at_control_port = outer->is_at_control_port,
                             .ifindex = outer->ifindex};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

static void pass_hop(uint8_t *packet, struct lm_inner *inner)
{
    inner->ttl--;
    if (inner->version == 4) {
        packet[8] = inner->ttl;
        lm_packet_write_ipv4_checksum(packet);
    } else {
        packet[7] = inner->ttl;
    }
}

/* Applies ECN and TTL of the outer header and decrements TTL; false: the packet is dropped. */
static bool take_over(struct lm_engine *e, uint8_t *packet, const struct lm_data *data, const struct lm_outer *outer,
                      struct lm_inner *inner)
{
    enum lm_strip_verdict verdict = lm_packet_strip(packet, &data->inner, outer->ttl, outer->tos, e->config.copy_dscp);
    if (verdict == LM_STRIP_ECN || verdict == LM_STRIP_TTL || !lm_packet_parse(packet, data->inner.length, inner) ||
        inner->ttl <= 1) {
        lm_count(&e->counters, verdict == LM_STRIP_ECN ? LM_data_ecn_drop : LM_data_ttl);
        return false;
    }
    pass_hop(packet, inner);
    return true;
}

/* Keeps a packet while the control plane asks for its destination. It waits in the Instance-ID of the proxy. */
static bool keep(struct lm_engine *e, uint8_t *packet, const struct lm_data *data, const struct lm_outer *outer)
{
    if (data->instance_id != e->config.proxy_instance_id)
        return false;
    struct lm_job job = {.packet = packet,
                         .instance_id = data->instance_id,
                         .now = outer->now,
                         .born = outer->now,
                         .lane = LM_LANE_DEFAULT};
    if (take_over(e, packet, data, outer, &job.inner)) {
        (void)lm_segment_reopen_vnet(&job.vnet, packet, &job.inner); /* it is kept as it came */
        lm_outbound_miss(e, &job);
    }
    return true;
}

bool lm_rtr_take(struct lm_engine *e, uint8_t *packet, const struct lm_data *data, const struct lm_outer *outer)
{
    struct lm_entry *entry = lm_table_lookup(e->table, data->instance_id, &data->inner.destination);
    if (entry && entry->kind == LM_MISS)
        return keep(e, packet, data, outer);
    if (!entry || entry->kind != LM_ENCAPSULATE)
        return false;
    if (e->relay->count == LM_BATCH) /* one message may hold many packets */
        lm_rtr_flush(e);
    struct lm_job *job = &e->relay->jobs[e->relay->count];
    *job = (struct lm_job){.packet = packet,
                           .instance_id = data->instance_id,
                           .flow = lm_packet_flow_hash(&e->key, &data->inner),
                           .now = outer->now,
                           .born = outer->now,
                           .set = entry->value,
                           .lane = LM_LANE_DEFAULT,
                           .is_relayed = true};
    lm_outbound_choose(e, job);
    if (!job->path)
        return false;
    if (!take_over(e, packet, data, outer, &job->inner))
        return true;
    if (lm_segment_reopen_vnet(&job->vnet, packet, &job->inner) &&
        (!lm_segment_complete_vnet(&job->vnet, packet, job->inner.length) ||
         !lm_segments_read(&job->vnet, packet, &job->inner, &job->segments))) {
        lm_count(&e->counters, LM_data_inner);
        return true;
    }
    if (!lm_sealed_out_admit(e, job))
        return true;
    atomic_store_explicit(&entry->used, 1, memory_order_relaxed);
    e->relay->count++;
    return true;
}

void lm_rtr_flush(struct lm_engine *e)
{
    struct lm_job *ready[LM_BATCH];
    for (size_t i = 0; i < e->relay->count; i++)
        ready[i] = &e->relay->jobs[i];
    lm_batch_send(e, ready, e->relay->count);
    e->relay->count = 0;
}
