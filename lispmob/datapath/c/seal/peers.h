/*
 * Holds all sessions: by index for arriving packets, by peer for sending.
 *
 * A peer has five places: older and previous (receive only), current, and earlier and next (until the peer has sent
 * something with them). Two places only receive, because if both sides begin a handshake at once, each may send with
 * another one of the two sessions, and then one side begins again. Two places wait for a packet, because on a slow path
 * the peer repeats its handshake before the first answer has arrived, and then sends with either session.
 *
 * Threads that hold the lock of the engine shared find, use and confirm sessions. The exclusive holder adds and
 * removes. So no session is freed while a packet uses it.
 */
#ifndef LM_PEERS_H
#define LM_PEERS_H

#include "seal/session.h"

#define LM_PEERS_RECENT (UINT64_C(1) << 20) /* packets that an error may quote */
#define LM_PEERS_REPORTS 4096u /* places for reports, one a second for a peer; a collision shares the place */
#define LM_PEERS_REPORT_NS UINT64_C(1000000000)

struct lm_peer {
    struct lm_peer *next;
    uint32_t number;
    struct lm_session *_Atomic slots[LM_SLOTS]; /* by enum lm_session_slot */
    /*
     * The last two outer sources of opened packets, family 0: none; the inbound thread alone. There are two, because
     * copies of a packet take two paths, and either may arrive first.
     */
    struct lm_addr outer[2];
    uint16_t outer_port[2];
};

struct lm_peers {
    struct lm_session **by_index, **by_remote; /* by our index, and by the peer's */
    struct lm_peer **by_number;
    size_t buckets, session_count, peer_count;
    struct lm_session *_Atomic retired; /* in no place any more; freed when no thread holds the lock */
    struct lm_table *keyed;             /* inner sources that have a session; value: the number of the peer */
    struct lm_table *refused;           /* inner sources that must not come in clear */
    atomic_uint_fast64_t wanted_at[LM_PEERS_REPORTS], moved_at[LM_PEERS_REPORTS], clear_at[LM_PEERS_REPORTS];
    atomic_uint_fast64_t behind_at[LM_PEERS_REPORTS], ahead_at[LM_PEERS_REPORTS]; /* seal/map_version.h */
};

/* Makes an empty set of sessions; NULL: out of memory. */
struct lm_peers *lm_peers_new(const struct lm_key *key);
void lm_peers_free(struct lm_peers *peers);

/* The following need the lock of the engine exclusive. */
/* Installs a session; 0, -ENOMEM, -EEXIST if the index is in use, or -ENOTSUP without a cipher. */
int lm_peers_install(struct lm_peers *peers, const struct lm_session_spec *spec, uint64_t now);
bool lm_peers_forget(struct lm_peers *peers, uint32_t local_index);
/* Adds inner sources that the peer of the session may send; false: no such session, or no memory. */
bool lm_peers_set_sources(struct lm_peers *peers, uint32_t local_index, const struct lm_prefix *sources, size_t count);
void lm_peers_forget_peer(struct lm_peers *peers, uint32_t number);

/* The following need the lock shared. */
/* Returns the session of an index if it is in a place, else NULL. */
struct lm_session *lm_peers_find_session(const struct lm_peers *peers, uint32_t local_index);
struct lm_peer *lm_peers_find(const struct lm_peers *peers, uint32_t number);
/*
 * Returns the session that may have sealed a packet with this index and counter recently. A host that quotes them has
 * seen the packet.
 */
const struct lm_session *lm_peers_sent_by(const struct lm_peers *peers, uint32_t remote_index, uint64_t counter);
/* True when there is such a session. */
bool lm_peers_has_sent(const struct lm_peers *peers, uint32_t remote_index, uint64_t counter);
/* Returns the session to send with now; NULL: none. */
struct lm_session *lm_peers_sender(const struct lm_peers *peers, uint32_t number, uint64_t now);
/* A packet was opened: makes a session that waited for one the `current` one; true if this call did that. */
bool lm_peers_confirm(struct lm_peers *peers, struct lm_session *session);
/* True when this inner source has a session of another peer, or its clear text is refused. */
bool lm_peers_is_others(const struct lm_peers *peers, const struct lm_session *session, const struct lm_addr *source);
/* True when the peer of the session may send this inner source. */
bool lm_peers_may_send(const struct lm_peers *peers, const struct lm_session *session, const struct lm_addr *source);
/* Rate limit: true once a second for a peer, in one of the two lists of times. */
bool lm_peers_may_report(atomic_uint_fast64_t *times, uint32_t number, uint64_t now);

#endif
