#include "liveness/last_packet.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "engine/engine.h"

#define AGE_NS 1000000000u /* ours: earlier packets were answered, or TCP retransmits them */
#define TCP_HEADER 20u
#define TCP_FIN 0x01u
#define TCP_PSH 0x08u

struct lm_last_packet *lm_last_packet_new(void)
{
    return calloc(LM_LAST_PACKETS, sizeof(struct lm_last_packet));
}

static struct lm_shared_address shared_address(const struct lm_addr *address)
{
    struct lm_shared_address made = {.family = address->family};
    memcpy(made.octets, address->octets, sizeof made.octets);
    return made;
}

static bool is_same(const struct lm_shared_address *a, const struct lm_shared_address *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

void lm_last_packet_note(struct lm_engine *e, const struct lm_job *job)
{
    struct lm_last_packet *kept = &e->last_packets[lm_last_packet_place((uint32_t)job->flow)];
    size_t length = job->segments.count ? job->segments.header + job->segments.size : job->inner.length;
    if (kept->flow == (uint32_t)job->flow && job->now < kept->at + LM_LAST_EVERY_NS)
        return;
    uint32_t turn = atomic_load_explicit(&kept->turn, memory_order_relaxed);
    if ((turn & 1) || !atomic_compare_exchange_strong(&kept->turn, &turn, turn + 1))
        return; /* another thread is writing a packet that serves as well */
    kept->flow = (uint32_t)job->flow;
    kept->at = job->now;
    kept->lane = job->lane;
    kept->from = shared_address(&job->path->address);
    kept->to = shared_address(&job->remote->address);
    kept->port = job->remote->port;
    kept->length = (uint32_t)(length < LM_LAST_OCTETS ? length : LM_LAST_OCTETS);
    memcpy(kept->packet, job->packet, kept->length);
    atomic_store_explicit(&kept->turn, turn + 2, memory_order_release);
}

/* Copies the packet, unless it was overwritten meanwhile or is older than AGE_NS. */
static bool take(struct lm_last_packet *kept, uint64_t now, struct lm_last_packet *into)
{
    uint32_t turn = atomic_load_explicit(&kept->turn, memory_order_acquire);
    if ((turn & 1) || !kept->at || now - kept->at > AGE_NS)
        return false;
    memcpy(into, kept, sizeof *into);
    /* A full barrier: the packet was copied before this, for any processor. */
    return atomic_fetch_add(&kept->turn, 0) == turn && into->length <= LM_LAST_OCTETS;
}

/*
 * Makes a packet of what was kept. The start of a longer packet or of a run is a packet that TCP may send by itself
 * (RFC 9293 section 3.8.1). Its checksum may have been partial.
 */
static bool mend(uint8_t *packet, size_t length, struct lm_inner *inner)
{
    bool is_v4 = length >= 40 && packet[0] >> 4 == 4;
    size_t whole = is_v4 ? lm_get16(packet + 2) : length >= 60 ? lm_get16(packet + 4) + 40u : 0;
    if (whole < length)
        return false;
    if (is_v4) {
        lm_put16(packet + 2, (uint16_t)length);
        lm_packet_write_ipv4_checksum(packet);
    } else {
        lm_put16(packet + 4, (uint16_t)(length - 40));
    }
    if (!lm_packet_parse(packet, length, inner) || inner->protocol != IPPROTO_TCP || inner->is_fragment ||
        length < inner->header + TCP_HEADER)
        return false;
    uint8_t *tcp = packet + inner->header;
    size_t segment = length - inner->header;
    if (whole > length)
        tcp[LM_TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    lm_put16(tcp + LM_TCP_CHECKSUM, 0);
    uint32_t pseudo = lm_packet_pseudo_sum(&inner->source, &inner->destination, IPPROTO_TCP, segment);
    lm_put16(tcp + LM_TCP_CHECKSUM, lm_packet_checksum(tcp, segment, pseudo));
    return true;
}

/*
 * True when the packet would leave by another path, or for another locator, by the present tables. Nothing is counted
 * or reported.
 */
static bool moves(struct lm_engine *e, struct lm_job *job, const struct lm_prefix *prefix,
                  const struct lm_last_packet *kept)
{
    enum lm_counter why;
    if (!lm_outbound_admits(e, job, &why))
        return false;
    if (prefix && (prefix->instance_id != job->instance_id ||
                   !lm_address_in(&job->inner.destination, &prefix->address, prefix->length)))
        return false;
    const struct lm_entry *entry = lm_table_lookup(e->table, job->instance_id, &job->inner.destination);
    if (!entry || (entry->kind != LM_ENCAPSULATE && entry->kind != LM_ENCAPSULATE_AND_REPORT))
        return false;
    job->set = entry->value;
    job->flow = lm_packet_flow_hash(&e->key, &job->inner);
    if (!lm_lane_choose(e, job)) {
        if (job->lane != LM_LANE_DEFAULT && e->drops_unusable)
            return false;
        lm_outbound_choose(e, job);
    }
    if (!job->path)
        return false;
    struct lm_shared_address from = shared_address(&job->path->address), to = shared_address(&job->remote->address);
    return !is_same(&from, &kept->from) || !is_same(&to, &kept->to) || job->remote->port != kept->port;
}

static void repeat(struct lm_engine *e, struct lm_last_packet *place, const struct lm_prefix *prefix, uint64_t now)
{
    static const lm_vnet whole = {0};
    static _Thread_local struct lm_last_packet kept;
    uint8_t *packet = e->scratch + LM_FRAME_HEADROOM;
    if (!take(place, now, &kept))
        return;
    struct lm_job job = {.packet = packet, .lane = kept.lane, .born = now, .now = now};
    memcpy(packet, kept.packet, kept.length);
    if (!mend(packet, kept.length, &job.inner) || !moves(e, &job, prefix, &kept))
        return;
    place->at = 0; /* once */
    lm_count(&e->counters, LM_out_repeated);
    if (lm_outbound_judge(e, &job, &whole, packet, kept.length, kept.lane, now, now))
        lm_send(e, &job);
}

void lm_last_packet_repeat(struct lm_engine *e, const struct lm_prefix *prefix)
{
    uint64_t now = lm_clock_now();
    for (size_t i = 0; i < LM_LAST_PACKETS; i++)
        repeat(e, &e->last_packets[i], prefix, now);
}
