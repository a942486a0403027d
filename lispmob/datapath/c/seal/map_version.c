#include "seal/map_version.h"

#include "engine/engine.h"

#define NUMBERS (1u << LM_MAP_VERSION_BITS)
#define MASK (NUMBERS - 1)
#define JUDGED (UINT64_C(1) << 63)

bool lm_map_version_is_newer(uint16_t one, uint16_t other)
{
    unsigned ahead = (one - other) & MASK;
    return ahead != 0 && (ahead < NUMBERS / 2 || (ahead == NUMBERS / 2 && one > other));
}

void lm_map_version_use(struct lm_engine *e, uint16_t version)
{
    atomic_store(&e->map_version, version & MASK);
}

void lm_map_version_put(const struct lm_engine *e, const struct lm_job *job, uint8_t *header)
{
    uint16_t own = atomic_load_explicit(&e->map_version, memory_order_relaxed);
    bool is_control_port = job->remote && job->remote->port == LM_PORT_CONTROL; /* N, L, E and V stay 0 there */
    if (own && !is_control_port && job->set && job->set->wish.map_version)
        lm_lisp_header_put_versions(header, own, job->set->wish.map_version);
}

/* Combines sender and both numbers in one value: an equal value needs no second check. */
static uint64_t mark_of(const struct lm_data *data)
{
    const uint8_t *octets = data->inner.source.octets;
    uint64_t source = (lm_get64(octets) ^ lm_get64(octets + 8)) * UINT64_C(0x9e3779b97f4a7c15);
    return JUDGED | (source >> 40) << 24 | data->nonce;
}

/*
 * Returns the version of the mapping that we use to send to this inner source; 0: this peer has none, or it has no
 * number.
 */
static uint16_t known_of(const struct lm_engine *e, const struct lm_data *data, const struct lm_session *session)
{
    const struct lm_entry *entry = lm_table_lookup(e->table, data->instance_id, &data->inner.source);
    const struct lm_locator_set *set = entry ? entry->value : NULL;
    return set && set->wish.peer == session->peer ? set->wish.map_version : 0;
}

static void report(struct lm_engine *e, uint8_t kind, const struct lm_data *data, const struct lm_outer *outer)
{
    struct lm_punt punt = {
        .kind = kind, .peer = outer->opened_by->peer, .instance_id = data->instance_id, .source = data->inner.source};
    atomic_uint_fast64_t *times = kind == LM_PUNT_PEER_BEHIND ? e->peers->behind_at : e->peers->ahead_at;
    if (lm_peers_may_report(times, punt.peer, outer->now))
        (void)lm_punt_put(&e->punts, &punt, NULL, 0);
}

bool lm_map_version_admits(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer)
{
    struct lm_session *session = outer->opened_by;
    uint16_t own = atomic_load_explicit(&e->map_version, memory_order_relaxed);
    if (!session || !own || (data->flags & (LM_FLAG_V | LM_FLAG_N)) != LM_FLAG_V)
        return true;
    uint16_t theirs = data->nonce >> LM_MAP_VERSION_BITS & MASK, ours = data->nonce & MASK;
    uint64_t mark = mark_of(data);
    if (ours == own && atomic_load_explicit(&session->versions, memory_order_relaxed) == mark)
        return true;
    if (ours == 0 || lm_map_version_is_newer(ours, own)) {
        lm_count(&e->counters, LM_data_policy);
        return false;
    }
    if (ours != own) {
        lm_count(&e->counters, LM_data_version_old);
        report(e, LM_PUNT_PEER_BEHIND, data, outer);
    }
    uint16_t known = known_of(e, data, session);
    bool is_news = theirs && known && lm_map_version_is_newer(theirs, known);
    if (is_news) {
        lm_count(&e->counters, LM_data_version_news);
        report(e, LM_PUNT_PEER_AHEAD, data, outer);
    } else if (ours == own) {
        atomic_store_explicit(&session->versions, mark, memory_order_relaxed);
    }
    return true;
}

void lm_map_version_forget_peer(const struct lm_peers *peers, uint32_t number)
{
    const struct lm_peer *peer = lm_peers_find(peers, number);
    for (size_t i = 0; peer && i < LM_SLOTS; i++) {
        struct lm_session *session = atomic_load_explicit(&peer->slots[i], memory_order_acquire);
        if (session)
            atomic_store_explicit(&session->versions, 0, memory_order_relaxed);
    }
}
