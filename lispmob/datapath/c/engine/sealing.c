/* The control side of sealed packets: adds and removes sessions while packets move. */
#include <errno.h>

#include "engine/engine.h"

#define KEEPALIVE_TTL 64

int lm_engine_install_session(struct lm_engine *e, const struct lm_session_spec *spec)
{
    (void)lm_aead_chosen(spec->aead); /* now, and not when a packet waits for it */
    lm_engine_lock(e);
    int error = lm_peers_install(e->peers, spec, lm_clock_now());
    if (!error && spec->is_confirmed)
        lm_sealed_out_release(e, spec->peer);
    lm_engine_unlock(e);
    return error;
}

bool lm_engine_set_sources(struct lm_engine *e, uint32_t local_index, const struct lm_prefix *sources, size_t count)
{
    lm_engine_lock(e);
    bool is_set = lm_peers_set_sources(e->peers, local_index, sources, count);
    lm_engine_unlock(e);
    return is_set;
}

bool lm_engine_forget_session(struct lm_engine *e, uint32_t local_index)
{
    lm_engine_lock(e);
    bool was_there = lm_peers_forget(e->peers, local_index);
    lm_engine_unlock(e);
    return was_there;
}

void lm_engine_forget_peer(struct lm_engine *e, uint32_t peer)
{
    lm_engine_lock(e);
    lm_peers_forget_peer(e->peers, peer);
    lm_engine_unlock(e);
}

int lm_engine_set_clear_refused(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count)
{
    return lm_engine_replace(e, &e->peers->refused, LM_SPACE_REFUSED, lm_table_of(&e->key, prefixes, count));
}

/* Finds the locator set for the packets of the peer, and the EID that they are for; NULL: there is none. */
static struct lm_locator_set *way_to(struct lm_engine *e, const struct lm_session *session, struct lm_addr *eid)
{
    for (size_t i = 0; i < session->source_count; i++) {
        *eid = session->sources[i].address;
        const struct lm_entry *entry = lm_table_lookup(e->table, session->instance_id, eid);
        struct lm_locator_set *set = entry ? entry->value : NULL;
        if (set && set->wish.peer == session->peer)
            return set;
    }
    uint32_t cursor = 0;
    for (struct lm_entry *entry; (entry = lm_table_next(e->table, &cursor));) {
        struct lm_locator_set *set = entry->value;
        *eid = entry->address;
        if (set && set->wish.peer == session->peer && entry->instance_id == session->instance_id)
            return set;
    }
    return NULL;
}

/* A set of this locator alone, for one packet. */
static struct lm_locator_set *only(struct lm_engine *e, const struct lm_addr *remote, struct lm_seal_wish wish)
{
    struct lm_locator_spec spec = {.address = *remote, .port = LM_PORT_DATA, .priority = 1, .weight = 1, .fd = -1};
    return lm_locator_set_take_sealed(e->locators, &spec, 1, wish);
}

bool lm_engine_say(struct lm_engine *e, uint32_t peer, const struct lm_addr *remote, const uint8_t *payload,
                   size_t length)
{
    bool is_sent = false;
    struct lm_locator_set *taken = NULL;
    if (length > LM_PUNT_PAYLOAD)
        return false;
    lm_engine_lock(e);
    struct lm_job job = {.now = lm_clock_now(), .lane = LM_LANE_DEFAULT};
    job.born = job.now;
    job.packet = e->scratch + LM_FRAME_HEADROOM;
    job.seal = lm_peers_sender(e->peers, peer, job.now);
    job.set = job.seal ? way_to(e, job.seal, &job.inner.destination) : NULL;
    if (job.set && remote)
        job.set = taken = only(e, remote, job.set->wish);
    if (job.set) {
        job.instance_id = job.seal->instance_id;
        job.inner.version = job.inner.destination.family;
        job.inner.source = e->icmp_source[job.inner.version == 6];
        job.inner.ttl = KEEPALIVE_TTL;
        if (length) {
            size_t head = lm_sealed_out_put_udp(job.packet, &job.inner, LM_PORT_CONTROL, length);
            memcpy(job.packet + head, payload, length);
            if (!lm_packet_parse(job.packet, head + length, &job.inner))
                job.set = NULL;
        }
    }
    if (job.set) {
        job.flow = lm_packet_flow_hash(&e->key, &job.inner);
        lm_outbound_choose(e, &job);
        is_sent = job.path && lm_send_empty(e, &job);
    }
    if (taken)
        lm_locator_set_drop(e->locators, taken);
    lm_engine_unlock(e);
    return is_sent;
}

bool lm_engine_send_keepalive(struct lm_engine *e, uint32_t peer)
{
    return lm_engine_say(e, peer, NULL, NULL, 0);
}

static void describe(const struct lm_session *s, uint64_t now, struct lm_session_use *use)
{
    uint64_t opened_at = atomic_load_explicit(&s->opened_at, memory_order_relaxed);
    *use = (struct lm_session_use){.peer = s->peer,
                                   .local_index = s->local_index,
                                   .slot = atomic_load_explicit(&s->slot, memory_order_relaxed),
                                   .sent = atomic_load_explicit(&s->sent, memory_order_relaxed),
                                   .opened = atomic_load_explicit(&s->opened, memory_order_relaxed),
                                   .age_ns = now - s->made_at,
                                   .idle_ns = opened_at ? now - opened_at : UINT64_MAX};
}

size_t lm_engine_sessions(struct lm_engine *e, struct lm_session_use *into, size_t most)
{
    size_t count = 0;
    pthread_mutex_lock(&e->writer);
    lm_share(&e->lock);
    uint64_t now = lm_clock_now();
    for (size_t i = 0; i < e->peers->buckets; i++)
        for (const struct lm_session *s = e->peers->by_index[i]; s && count < most; s = s->next_by_index)
            if (atomic_load_explicit(&s->slot, memory_order_relaxed) != LM_SLOT_NONE)
                describe(s, now, &into[count++]);
    lm_unshare(&e->lock);
    pthread_mutex_unlock(&e->writer);
    return count;
}

bool lm_engine_wear_session(struct lm_engine *e, uint32_t local_index, uint64_t age_ns, uint64_t sent)
{
    lm_engine_lock(e);
    struct lm_session *session = lm_peers_find_session(e->peers, local_index);
    if (session) {
        session->made_at -= age_ns;
        atomic_fetch_add(&session->sent, sent);
    }
    lm_engine_unlock(e);
    return session != NULL;
}
