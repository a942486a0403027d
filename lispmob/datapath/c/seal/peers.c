#include "seal/peers.h"

#include <errno.h>
#include <stdlib.h>

#define BUCKETS 16u

static size_t place_of(const struct lm_peers *peers, uint32_t number)
{
    return (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (peers->buckets - 1);
}

struct lm_peers *lm_peers_new(const struct lm_key *key)
{
    struct lm_peers *peers = calloc(1, sizeof *peers);
    if (!peers)
        return NULL;
    peers->buckets = BUCKETS;
    peers->by_index = calloc(BUCKETS, sizeof(struct lm_session *));
    peers->by_remote = calloc(BUCKETS, sizeof(struct lm_session *));
    peers->by_number = calloc(BUCKETS, sizeof(struct lm_peer *));
    peers->keyed = lm_table_new(key);
    peers->refused = lm_table_new(key);
    if (peers->by_index && peers->by_remote && peers->by_number && peers->keyed && peers->refused)
        return peers;
    lm_peers_free(peers);
    return NULL;
}

static void free_all(struct lm_peers *peers)
{
    for (size_t i = 0; i < peers->buckets; i++) {
        for (struct lm_session *s = peers->by_index[i], *next; s; s = next) {
            next = s->next_by_index;
            lm_session_free(s);
        }
        for (struct lm_peer *p = peers->by_number[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    }
}

void lm_peers_free(struct lm_peers *peers)
{
    if (!peers)
        return;
    if (peers->by_index && peers->by_number)
        free_all(peers);
    free(peers->by_index);
    free(peers->by_remote);
    free(peers->by_number);
    lm_table_free(peers->keyed);
    lm_table_free(peers->refused);
    free(peers);
}

struct lm_peer *lm_peers_find(const struct lm_peers *peers, uint32_t number)
{
    struct lm_peer *peer = peers->by_number[place_of(peers, number)];
    while (peer && peer->number != number)
        peer = peer->next;
    return peer;
}

static struct lm_session *find_any(const struct lm_peers *peers, uint32_t local_index)
{
    struct lm_session *s = peers->by_index[place_of(peers, local_index)];
    while (s && s->local_index != local_index)
        s = s->next_by_index;
    return s;
}

struct lm_session *lm_peers_find_session(const struct lm_peers *peers, uint32_t local_index)
{
    struct lm_session *s = find_any(peers, local_index);
    return s && atomic_load_explicit(&s->slot, memory_order_relaxed) != LM_SLOT_NONE ? s : NULL;
}

static void grow(struct lm_peers *peers)
{
    size_t before = peers->buckets;
    if (peers->session_count < before)
        return;
    struct lm_session **by_index = calloc(before * 4, sizeof(struct lm_session *));
    struct lm_session **by_remote = calloc(before * 4, sizeof(struct lm_session *));
    struct lm_peer **by_number = calloc(before * 4, sizeof(struct lm_peer *));
    if (!by_index || !by_remote || !by_number) { /* without memory the chains stay longer */
        free(by_index);
        free(by_remote);
        free(by_number);
        return;
    }
    peers->buckets = before * 4;
    for (size_t i = 0; i < before; i++) {
        for (struct lm_session *s = peers->by_index[i], *next; s; s = next) {
            next = s->next_by_index;
            s->next_by_index = by_index[place_of(peers, s->local_index)];
            by_index[place_of(peers, s->local_index)] = s;
        }
        for (struct lm_session *s = peers->by_remote[i], *next; s; s = next) {
            next = s->next_by_remote;
            s->next_by_remote = by_remote[place_of(peers, s->remote_index)];
            by_remote[place_of(peers, s->remote_index)] = s;
        }
        for (struct lm_peer *p = peers->by_number[i], *next; p; p = next) {
            next = p->next;
            p->next = by_number[place_of(peers, p->number)];
            by_number[place_of(peers, p->number)] = p;
        }
    }
    free(peers->by_index);
    free(peers->by_remote);
    free(peers->by_number);
    peers->by_remote = by_remote;
    peers->by_index = by_index;
    peers->by_number = by_number;
}

static struct lm_peer *peer_of(struct lm_peers *peers, uint32_t number)
{
    struct lm_peer *peer = lm_peers_find(peers, number);
    if (peer || !(peer = calloc(1, sizeof *peer)))
        return peer;
    peer->number = number;
    peer->next = peers->by_number[place_of(peers, number)];
    peers->by_number[place_of(peers, number)] = peer;
    peers->peer_count++;
    return peer;
}

static struct lm_session *session_at(const struct lm_peer *peer, enum lm_session_slot slot)
{
    return atomic_load_explicit(&peer->slots[slot], memory_order_acquire);
}

/* True when another session of the same peer has this source, too. */
static bool is_kept(const struct lm_peers *peers, const struct lm_session *gone, const struct lm_prefix *prefix)
{
    const struct lm_peer *peer = lm_peers_find(peers, gone->peer);
    for (size_t i = 0; peer && i < LM_SLOTS; i++) {
        const struct lm_session *s = session_at(peer, (enum lm_session_slot)i);
        for (size_t k = 0; s && s != gone && k < s->source_count; k++)
            if (s->sources[k].instance_id == prefix->instance_id && s->sources[k].length == prefix->length &&
                lm_addr_equal(&s->sources[k].address, &prefix->address))
                return true;
    }
    return false;
}

/* Removes the sources of a session from its peer, except for those that another session of the peer has, too. */
static void unkey(struct lm_peers *peers, const struct lm_session *session)
{
    for (size_t i = 0; i < session->source_count; i++) {
        struct lm_entry *entry = lm_table_find(peers->keyed, &session->sources[i]);
        if (entry && (uint32_t)(uintptr_t)entry->value == session->peer &&
            !is_kept(peers, session, &session->sources[i]))
            (void)lm_table_remove(peers->keyed, &session->sources[i]);
    }
}

static bool key(struct lm_peers *peers, const struct lm_session *session)
{
    for (size_t i = 0; i < session->source_count; i++) {
        struct lm_entry *entry = lm_table_insert(peers->keyed, &session->sources[i]);
        if (!entry)
            return false;
        entry->value = (void *)(uintptr_t)session->peer;
    }
    return true;
}

static void free_session(struct lm_peers *peers, struct lm_session *session)
{
    unkey(peers, session);
    struct lm_session **link = &peers->by_index[place_of(peers, session->local_index)];
    while (*link != session)
        link = &(*link)->next_by_index;
    *link = session->next_by_index;
    link = &peers->by_remote[place_of(peers, session->remote_index)];
    while (*link != session)
        link = &(*link)->next_by_remote;
    *link = session->next_by_remote;
    peers->session_count--;
    lm_session_free(session);
}

static void free_retired(struct lm_peers *peers)
{
    struct lm_session *s = atomic_exchange(&peers->retired, NULL);
    for (struct lm_session *next; s; s = next) {
        next = s->next_retired;
        free_session(peers, s);
    }
}

/* Removes a session from its place for good. */
static void retire(struct lm_peers *peers, struct lm_session *session)
{
    if (!session)
        return;
    atomic_store_explicit(&session->slot, LM_SLOT_NONE, memory_order_relaxed);
    session->next_retired = atomic_load(&peers->retired);
    while (!atomic_compare_exchange_weak(&peers->retired, &session->next_retired, session))
        ;
}

/* Puts a session (or none) into a place; returns the former one. */
static struct lm_session *put(struct lm_peer *peer, enum lm_session_slot slot, struct lm_session *session)
{
    if (session)
        atomic_store_explicit(&session->slot, (uint8_t)slot, memory_order_relaxed);
    return atomic_exchange(&peer->slots[slot], session);
}

static void make_current(struct lm_peers *peers, struct lm_peer *peer, struct lm_session *session)
{
    struct lm_session *before = put(peer, LM_SLOT_CURRENT, session);
    struct lm_session *older = before ? put(peer, LM_SLOT_PREVIOUS, before) : NULL;
    if (older)
        retire(peers, put(peer, LM_SLOT_OLDER, older));
}

int lm_peers_install(struct lm_peers *peers, const struct lm_session_spec *spec, uint64_t now)
{
    if (!lm_aead_is_built())
        return -ENOTSUP;
    free_retired(peers);
    if (find_any(peers, spec->local_index))
        return -EEXIST;
    grow(peers);
    struct lm_peer *peer = peer_of(peers, spec->peer);
    struct lm_session *session = peer ? lm_session_new(spec, now) : NULL;
    if (!session)
        return -ENOMEM;
    const struct lm_session *former = session_at(peer, LM_SLOT_CURRENT);
    if (former) { /* a new key does not change the path */
        atomic_init(&session->nested_mtu, atomic_load_explicit(&former->nested_mtu, memory_order_relaxed));
        atomic_init(&session->nested_until, atomic_load_explicit(&former->nested_until, memory_order_relaxed));
    }
    session->next_by_index = peers->by_index[place_of(peers, spec->local_index)];
    peers->by_index[place_of(peers, spec->local_index)] = session;
    session->next_by_remote = peers->by_remote[place_of(peers, spec->remote_index)];
    peers->by_remote[place_of(peers, spec->remote_index)] = session;
    peers->session_count++;
    if (!key(peers, session)) {
        free_session(peers, session);
        return -ENOMEM;
    }
    if (spec->is_confirmed) {
        make_current(peers, peer, session);
    } else {
        struct lm_session *before = put(peer, LM_SLOT_NEXT, session);
        if (before)
            retire(peers, put(peer, LM_SLOT_EARLIER, before));
    }
    free_retired(peers);
    return 0;
}

static void take_out(struct lm_peers *peers, struct lm_peer *peer, const struct lm_session *session)
{
    for (size_t i = 0; i < LM_SLOTS; i++)
        if (session_at(peer, (enum lm_session_slot)i) == session)
            retire(peers, put(peer, (enum lm_session_slot)i, NULL));
}

bool lm_peers_forget(struct lm_peers *peers, uint32_t local_index)
{
    free_retired(peers);
    struct lm_session *session = find_any(peers, local_index);
    if (!session)
        return false;
    take_out(peers, lm_peers_find(peers, session->peer), session);
    free_retired(peers);
    return true;
}

bool lm_peers_set_sources(struct lm_peers *peers, uint32_t local_index, const struct lm_prefix *sources, size_t count)
{
    struct lm_session *session = find_any(peers, local_index);
    struct lm_prefix *fresh = session && count ? calloc(count, sizeof *fresh) : NULL;
    if (!fresh)
        return false;
    memcpy(fresh, sources, count * sizeof *fresh);
    unkey(peers, session);
    free(session->sources);
    session->sources = fresh;
    session->source_count = count;
    return key(peers, session);
}

void lm_peers_forget_peer(struct lm_peers *peers, uint32_t number)
{
    free_retired(peers);
    struct lm_peer **link = &peers->by_number[place_of(peers, number)], *peer;
    while (*link && (*link)->number != number)
        link = &(*link)->next;
    if (!(peer = *link))
        return;
    for (size_t i = 0; i < LM_SLOTS; i++)
        retire(peers, put(peer, (enum lm_session_slot)i, NULL));
    free_retired(peers);
    *link = peer->next;
    peers->peer_count--;
    free(peer);
}

const struct lm_session *lm_peers_sent_by(const struct lm_peers *peers, uint32_t remote_index, uint64_t counter)
{
    for (const struct lm_session *s = peers->by_remote[place_of(peers, remote_index)]; s; s = s->next_by_remote) {
        uint64_t sent = atomic_load_explicit(&s->sent, memory_order_relaxed);
        if (s->remote_index == remote_index && counter < sent && sent - counter <= LM_PEERS_RECENT)
            return s;
    }
    return NULL;
}

bool lm_peers_has_sent(const struct lm_peers *peers, uint32_t remote_index, uint64_t counter)
{
    return lm_peers_sent_by(peers, remote_index, counter) != NULL;
}

struct lm_session *lm_peers_sender(const struct lm_peers *peers, uint32_t number, uint64_t now)
{
    const struct lm_peer *peer = lm_peers_find(peers, number);
    struct lm_session *session = peer ? session_at(peer, LM_SLOT_CURRENT) : NULL;
    return session && lm_session_may_send(session, now) ? session : NULL;
}

bool lm_peers_confirm(struct lm_peers *peers, struct lm_session *session)
{
    uint8_t slot = atomic_load_explicit(&session->slot, memory_order_relaxed);
    if (slot != LM_SLOT_NEXT && slot != LM_SLOT_EARLIER)
        return false;
    struct lm_peer *peer = lm_peers_find(peers, session->peer);
    struct lm_session *wanted = session;
    if (!peer || !atomic_compare_exchange_strong(&peer->slots[slot], &wanted, NULL))
        return false;
    make_current(peers, peer, session);
    return true;
}

bool lm_peers_is_others(const struct lm_peers *peers, const struct lm_session *session, const struct lm_addr *source)
{
    const struct lm_entry *own = lm_table_lookup(peers->keyed, session->instance_id, source);
    return (own && (uint32_t)(uintptr_t)own->value != session->peer) ||
           (!own && lm_table_lookup(peers->refused, session->instance_id, source));
}

/* True for a source that seals, also while it has no session. A whole family has no length: all of it must be sealed. */
static bool is_refused_by_name(const struct lm_peers *peers, uint32_t instance_id, const struct lm_addr *source)
{
    const struct lm_entry *refused = lm_table_lookup(peers->refused, instance_id, source);
    return refused && refused->length;
}

bool lm_peers_may_send(const struct lm_peers *peers, const struct lm_session *session, const struct lm_addr *source)
{
    if (session->source_count)
        return lm_session_covers(session, source);
    const struct lm_entry *own = lm_table_lookup(peers->keyed, session->instance_id, source);
    if (own)
        return (uint32_t)(uintptr_t)own->value == session->peer;
    return !is_refused_by_name(peers, session->instance_id, source);
}

bool lm_peers_may_report(atomic_uint_fast64_t *times, uint32_t number, uint64_t now)
{
    atomic_uint_fast64_t *place = &times[number % LM_PEERS_REPORTS];
    uint64_t before = atomic_load_explicit(place, memory_order_relaxed);
    return (before == 0 || now >= before + LM_PEERS_REPORT_NS) && atomic_compare_exchange_strong(place, &before, now);
}
