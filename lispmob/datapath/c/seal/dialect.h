/*
 * Encrypts data per locator as other implementations do: cipher suite 5 of RFC 8061, and what lispers.net calls
 * lisp-crypto.
 *
 * Neither authenticates the other side. So a packet that opens is checked as if it had come in clear. Only packets that
 * may leave in clear are encrypted so; packets to a peer that seals never are.
 *
 *   RFC 8061, suite 5:  LISP header (KK) | counter (12) | inner packet, AES-128-GCM | tag (16)
 *   lispers.net, 2:     LISP header (KK) | IV (16) | inner packet and 0x20 to whole blocks, AES-128-CBC | ICV (20)
 *   lispers.net, 5:     LISP header (KK) | IV (12) | the same, AES-128-GCM without header | tag (16) | ICV (20)
 *
 * ICV: HMAC-SHA-256 over all octets before it, truncated. The IV of lispers.net is one number that counts up from a
 * random start. A replay window over it lets each packet open once. Keys are per address of a locator, different ones
 * for each direction.
 */
#ifndef LM_DIALECT_H
#define LM_DIALECT_H

#include "seal/session.h"

#define LM_DIALECT_ICV 20u
#define LM_DIALECT_INTEGRITY 16u
#define LM_DIALECT_OCTETS 64u /* the most octets that a packet has more than a clear one: padding, IV, tag, ICV */

enum lm_dialect { LM_DIALECT_NONE = 0, LM_DIALECT_RFC8061 = 1, LM_DIALECT_LISPERS_2 = 2, LM_DIALECT_LISPERS_5 = 5 };

struct lm_engine;
struct lm_job;
struct lm_outer;
struct lm_remote;

struct lm_dialect_spec {
    struct lm_addr address; /* of the locator */
    uint8_t dialect;        /* enum lm_dialect */
    uint8_t key_id;         /* 1 to 3, in the KK bits */
    bool seals;             /* true: for packets to the locator; false: from it */
    uint8_t key[16], integrity[LM_DIALECT_INTEGRITY];
    uint64_t start_high, start_low; /* lispers.net: where the IV starts */
};

struct lm_dialects {
    struct lm_table *out, *in; /* by address; in `in`, the key-id takes the place of the Instance-ID */
};

/* Makes an empty set of keys; NULL: out of memory. */
struct lm_dialects *lm_dialects_new(const struct lm_key *key);
void lm_dialects_free(struct lm_dialects *dialects);

/* Replaces the key. Packets of lispers.net that were sealed with the former key still open. 0 or -errno. */
int lm_dialect_install(struct lm_engine *e, const struct lm_dialect_spec *spec);
/* Removes the keys to a locator (`seals`), or from it. */
void lm_dialect_forget(struct lm_engine *e, const struct lm_addr *address, bool seals);
/* The use of the current keys of a locator: packets sealed to it, and opened from it. */
struct lm_dialect_use {
    uint64_t sent, opened;
    uint8_t dialect_out, dialect_in; /* enum lm_dialect */
};
struct lm_dialect_use lm_dialect_used(struct lm_engine *e, const struct lm_addr *address);

/* Returns the key for packets of this job, whose locator is chosen; NULL: they leave in clear. */
struct lm_session *lm_dialect_choose(const struct lm_engine *e, const struct lm_job *job,
                                     const struct lm_remote *mapped);
/* Does what lm_session_seal() does, for a session of a dialect. */
size_t lm_dialect_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                       size_t count, uint8_t *out);
/* Returns the octets that packets of this session have more than clear ones: exactly, or at most if they are padded. */
size_t lm_dialect_octets(const struct lm_session *session);
/* True when all packets of one inner length have one length; false: they are padded. */
bool lm_dialect_is_even(const struct lm_session *session);

enum lm_dialect_verdict { LM_DIALECT_OTHER, LM_DIALECT_LOST, LM_DIALECT_OPENED };
/*
 * Opens a datagram with KK set, in place. OTHER: we have no key of its locator. OPENED: `data` describes the inner
 * packet, which begins `head` octets after the start. LOST: it is counted.
 */
enum lm_dialect_verdict lm_dialect_open(struct lm_engine *e, uint8_t *datagram, size_t length,
                                        const struct lm_outer *outer, struct lm_data *data, size_t *head);
/*
 * Opens one packet of one session, without an engine. Returns the octets of the inner packet and its padding; 0: it
 * does not open.
 */
size_t lm_dialect_open_one(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length, size_t *head,
                           enum lm_session_verdict *why);
struct lm_session *lm_dialect_session(const struct lm_dialect_spec *spec);

#endif
