#include "seal/sealed_out.h"

#include <netinet/in.h>
#include <sys/eventfd.h>

#include "engine/outer.h"
#include "seal/handshake.h"

#define CONTROL_SIDE (LM_SEAL_THREADS - 1)
#define UDP_HEADER 8u

static _Thread_local unsigned own_number = CONTROL_SIDE;

void lm_sealed_out_set_thread(unsigned number)
{
    own_number = number;
}

unsigned lm_sealed_out_thread(void)
{
    return own_number;
}

uint8_t *lm_sealed_out_room(struct lm_engine *e)
{
    return e->sealed[own_number];
}

uint8_t *lm_sealed_out_single(struct lm_engine *e)
{
    return e->sealed[own_number] + LM_SEALED_ROOM + LM_SEALED_NEST;
}

static void want(struct lm_engine *e, uint32_t peer, uint64_t now)
{
    struct lm_punt report = {.kind = LM_PUNT_SEAL_WANTED, .peer = peer};
    if (lm_peers_may_report(e->peers->wanted_at, peer, now))
        (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

static size_t packets_of(const struct lm_job *job)
{
    return job->segments.count ? job->segments.count : 1;
}

/* True for a packet that its sender sealed for a node behind us: an RTR forwards it unchanged. */
static bool is_sealed_already(const struct lm_engine *e, const struct lm_inner *inner)
{
    return e->config.is_proxy && inner->protocol == IPPROTO_UDP && inner->has_ports &&
           inner->source_port == LM_PORT_DATA && inner->destination_port == LM_PORT_DATA;
}

bool lm_sealed_out_admit(struct lm_engine *e, struct lm_job *job)
{
    static const struct lm_addr no_eid = {0};
    const struct lm_locator_set *set = job->set;
    job->seal = NULL;
    if ((!set->wish.peer && !set->wish.must_seal) || is_sealed_already(e, &job->inner) ||
        lm_handshake_is(job->packet, &job->inner))
        return true;
    if (!set->wish.peer) {
        lm_count_many(&e->counters, LM_out_unsealed, packets_of(job));
        return false;
    }
    job->seal = lm_peers_sender(e->peers, set->wish.peer, job->now);
    if (!job->seal || lm_session_is_rekey_due(job->seal, job->now))
        want(e, set->wish.peer, job->now);
    if (job->seal || !set->wish.must_seal)
        return true;
    if (!job->is_retry)
        lm_count_many(&e->counters, LM_out_key_wait, packets_of(job));
    (void)lm_pending_add(e->unsealed, set->wish.peer, &no_eid, &job->vnet, job->packet, job->inner.length, job->lane,
                         job->born, job->now);
    return false;
}

static bool is_relay(const struct lm_locator_set *set, const struct lm_remote *remote)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->remotes[i] == remote)
            return set->specs[i].is_relay;
    return false;
}

bool lm_sealed_out_nests(const struct lm_job *job, const struct lm_remote *mapped)
{
    if (!job->seal || !job->seal->source_count) /* a hub that opens packets for all hosts has no EID behind a relay */
        return false;
    return is_relay(job->set, mapped) ||
           (job->remote != mapped && !lm_addr_equal(&job->remote->address, &mapped->address));
}

/* Returns the octets of LISP, IP and UDP header before the header of the sealed packet. */
static size_t nest_of(const struct lm_job *job)
{
    return job->is_nested ? lm_rules_outer_octets(job->inner.version == 4) : 0;
}

size_t lm_sealed_out_overhead(const struct lm_job *job)
{
    return job->seal ? lm_dialect_octets(job->seal) + nest_of(job) : 0;
}

size_t lm_sealed_out_put_udp(uint8_t *out, const struct lm_inner *inner, uint16_t port, size_t payload)
{
    bool is_v4 = inner->version == 4;
    size_t header = is_v4 ? 20 : 40, octets = UDP_HEADER + payload;
    memset(out, 0, header + UDP_HEADER);
    if (is_v4) {
        out[0] = 0x45;
        out[1] = inner->tos;
        lm_put16(out + 2, (uint32_t)(header + octets));
        out[6] = 0x40; /* DF: fragments of a sealed packet are useless */
        out[8] = inner->ttl;
        out[9] = IPPROTO_UDP;
        memcpy(out + 12, inner->source.octets, 4);
        memcpy(out + 16, inner->destination.octets, 4);
        lm_packet_write_ipv4_checksum(out);
    } else {
        out[0] = (uint8_t)(0x60 | inner->tos >> 4);
        out[1] = (uint8_t)(inner->tos << 4);
        lm_put16(out + 4, (uint32_t)octets);
        out[6] = IPPROTO_UDP;
        out[7] = inner->ttl;
        memcpy(out + 8, inner->source.octets, 16);
        memcpy(out + 24, inner->destination.octets, 16);
    }
    uint8_t *udp = out + header; /* the checksum is 0, as RFC 9300 has it for LISP data: the tag is stronger */
    lm_put16(udp, port);
    lm_put16(udp + 2, port);
    lm_put16(udp + 4, (uint32_t)octets);
    return header + UDP_HEADER;
}

static void lost(struct lm_engine *e, size_t packets)
{
    lm_count_many(&e->counters, LM_out_unsealed, packets);
}

bool lm_sealed_out_may_go(struct lm_engine *e, const struct lm_job *job, size_t count)
{
    struct lm_locator_set *set = (struct lm_locator_set *)(uintptr_t)job->set; /* for its counters */
    if (lm_locator_may_take(set, job->remote, count))
        return true;
    lm_count_many(&e->counters, LM_out_unproven, count);
    return false;
}

bool lm_sealed_out_take(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first)
{
    return lm_sealed_out_may_go(e, job, count) && lm_sealed_out_number(e, job, count, first);
}

bool lm_sealed_out_number(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first)
{
    bool has_counters = lm_session_take(job->seal, count, first);
    if (!has_counters)
        lost(e, count);
    return has_counters;
}

size_t lm_sealed_out_seal(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                          size_t count, uint8_t *out)
{
    bool is_dialect = job->seal->dialect != LM_DIALECT_NONE;
    lm_lisp_header_write(out, is_dialect ? job->instance_id : job->seal->instance_id);
    lm_send_put_status(e, out);
    lm_map_version_put(e, job, out);
    size_t octets = is_dialect ? lm_dialect_seal(job->seal, own_number, counter, parts, count, out)
                               : lm_session_seal(job->seal, own_number, counter, parts, count, out);
    if (is_dialect && octets)
        lm_count(&e->counters, LM_out_obfuscated);
    if (octets == 0)
        lost(e, 1);
    return octets;
}

const uint8_t *lm_sealed_out_wrap(struct lm_engine *e, const struct lm_job *job, uint8_t *sealed, size_t *octets)
{
    size_t nest = nest_of(job);
    if (nest) {
        lm_send_put_lisp_header(e, job, sealed - nest);
        (void)lm_sealed_out_put_udp(sealed - nest + LM_DATA_HEADER, &job->inner, LM_PORT_DATA, *octets);
    }
    *octets += nest;
    return sealed - nest;
}

size_t lm_sealed_out_put(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                         size_t count, uint8_t *out)
{
    size_t nest = 0, payload = LM_DATA_HEADER + LM_SEAL_OCTETS;
    if (job->is_nested) {
        for (size_t i = 0; i < count; i++)
            payload += parts[i].iov_len;
        lm_send_put_lisp_header(e, job, out);
        nest = LM_DATA_HEADER + lm_sealed_out_put_udp(out + LM_DATA_HEADER, &job->inner, LM_PORT_DATA, payload);
    }
    size_t octets = lm_sealed_out_seal(e, job, counter, parts, count, out + nest);
    return octets ? nest + octets : 0;
}

void lm_sealed_out_release(struct lm_engine *e, uint32_t peer)
{
    struct lm_prefix waiting = {.instance_id = peer};
    if (!peer || !lm_pending_count(e->unsealed))
        return;
    lm_pending_release(e->unsealed, &waiting);
    lm_outbound_retry(e, e->unsealed);
}

void lm_sealed_out_wake(struct lm_engine *e)
{
    atomic_store(&e->has_key, true);
    if (e->key_wake >= 0)
        (void)eventfd_write(e->key_wake, 1);
}

void lm_sealed_out_check(struct lm_engine *e)
{
    if (!atomic_exchange(&e->has_key, false))
        return;
    lm_share(&e->lock);
    lm_pending_release(e->unsealed, NULL);
    lm_outbound_retry(e, e->unsealed);
    lm_unshare(&e->lock);
}
