/*
 * One key pair of one peer, and the packets that it seals and opens:
 *
 * |0 L 0 V I 0 0 1|  Map-Versions, if V   |        LISP header, KK = 1; associated data
 * |  Instance-ID                 |  status |
 * |  receiver's index (4) | counter (8)    |        the AEAD's nonce as it stands; associated data
 * |  inner packet, encrypted | tag (16)    |        zero octets may follow the inner packet; none at all: keep-alive
 *
 * The layout is that of cipher suite 5 in RFC 8061; index and counter in the IV are ours. Pure except for libcrypto:
 * the caller passes the time. Several threads may use a session, each with its own number.
 */
#ifndef LM_SESSION_H
#define LM_SESSION_H

#include <stdatomic.h>

#include "packet/lisp_header.h"
#include "seal/aead.h"
#include "seal/replay.h"
#include "table/table.h"

#define LM_SEAL_IV LM_AEAD_NONCE
#define LM_SEAL_HEAD (LM_DATA_HEADER + LM_SEAL_IV)
#define LM_SEAL_OCTETS (LM_SEAL_IV + LM_AEAD_TAG) /* octets that sealing adds */
#define LM_SEAL_MIN (LM_DATA_HEADER + LM_SEAL_OCTETS)
#define LM_SEAL_KK 1u

#define LM_SEAL_THREADS 3u /* outbound, inbound, and the control side, which holds the lock of the engine exclusively */

/* Limits of one key. The first two start a new one, the last one ends its use (RFC 9001, B.1.1). */
#define LM_SEAL_REKEY_NS (UINT64_C(120) * 1000000000u)
#define LM_SEAL_REKEY_RESPONDER_NS (UINT64_C(165) * 1000000000u)
#define LM_SEAL_REKEY_PACKETS (UINT64_C(1) << 27)
#define LM_SEAL_LIFE_NS (UINT64_C(180) * 1000000000u)
#define LM_SEAL_PACKETS_MAX (UINT64_C(1) << 28)
#define LM_DIALECT_PACKETS_MAX (UINT64_C(1) << 32) /* the control plane replaces keys earlier */

struct lm_session_spec {
    uint32_t peer, local_index, remote_index, instance_id;
    uint8_t send_key[LM_AEAD_KEY], receive_key[LM_AEAD_KEY];
    uint8_t aead;      /* enum lm_aead */
    bool is_confirmed; /* we began it, and may send; false: a packet of the peer must be opened first */
    size_t source_count;
    const struct lm_prefix *sources; /* inner sources that the peer may send; none: all that have no session */
};

enum lm_session_slot {
    LM_SLOT_PREVIOUS = 0,
    LM_SLOT_CURRENT = 1,
    LM_SLOT_NEXT = 2,
    LM_SLOT_OLDER = 3,
    LM_SLOT_EARLIER = 4,
    LM_SLOT_NONE = 5
};
#define LM_SLOTS 5u

struct lm_session {
    struct lm_session *next_by_index, *next_by_remote, *next_retired;
    uint32_t peer, local_index, remote_index, instance_id;
    uint8_t aead;
    uint8_t dialect, key_id; /* seal/dialect.h; 0 and 1: no dialect */
    bool is_initiator;
    uint8_t send_key[LM_AEAD_KEY], receive_key[LM_AEAD_KEY];
    /* Made when a thread first needs them: a hub has many sessions, and most of them serve one thread. */
    struct lm_aead_context *sealers[LM_SEAL_THREADS], *openers[LM_SEAL_THREADS];
    uint64_t made_at;
    atomic_uint_fast64_t sent;              /* the next counter */
    atomic_uint_fast64_t opened, opened_at; /* 0: none yet */
    _Atomic uint8_t slot;                   /* enum lm_session_slot */
    atomic_uint nested_mtu;                 /* seal/nested_mtu.h; until then */
    atomic_uint_fast64_t nested_until;
    struct lm_replay replay;
    atomic_uint_fast64_t versions; /* seal/map_version.h: the numbers checked last; 0: none */
    /* Of a dialect: the key of the ICV, the IV that the counters start at, whether it is known, and the former key. */
    uint8_t integrity[20];
    uint64_t iv_high, iv_low;
    bool has_iv;
    struct lm_session *former;
    size_t source_count;
    struct lm_prefix *sources; /* a copy of its own; the exclusive holder of the lock replaces it */
};

/* Makes a session; NULL: out of memory, or there is no cipher. */
struct lm_session *lm_session_new(const struct lm_session_spec *spec, uint64_t now);
/* Overwrites the keys and frees the session. */
void lm_session_free(struct lm_session *session);
/* True when the key is neither too old nor used too often. The caller checks the slot. */
bool lm_session_may_send(const struct lm_session *session, uint64_t now);
bool lm_session_may_receive(const struct lm_session *session, uint64_t now);
/* True when the next key is due: two minutes or 2^27 packets after this one was made. */
bool lm_session_is_rekey_due(const struct lm_session *session, uint64_t now);
/* Reserves `count` counters; false: the key has none left. */
bool lm_session_take(struct lm_session *session, uint64_t count, uint64_t *first);
/*
 * Seals the parts after the LISP header at `out`, which has room for LM_SEAL_HEAD octets, the parts, and LM_AEAD_TAG;
 * sets KK. Returns the octets written, header included; 0: libcrypto refuses.
 */
size_t lm_session_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                       size_t count, uint8_t *out);
/* Returns the index of a datagram with KK = 1 of LM_SEAL_MIN octets or more, and its counter. */
uint32_t lm_session_index(const uint8_t *datagram);
uint64_t lm_session_counter(const uint8_t *datagram);

enum lm_session_verdict { LM_OPENED, LM_OPEN_KEY, LM_OPEN_REPLAY, LM_OPEN_TAG, LM_OPEN_IID };
/* Opens a datagram of LM_SEAL_MIN octets or more in place: the inner packet is LM_SEAL_HEAD octets after its start. */
enum lm_session_verdict lm_session_open(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length,
                                        uint64_t now);
/* True when the session allows the peer to send this inner source. */
bool lm_session_covers(const struct lm_session *session, const struct lm_addr *source);

#endif
