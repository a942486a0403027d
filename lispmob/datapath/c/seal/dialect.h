/*
 * Data encrypted as others do it, per locator: cipher suite 5 of RFC 8061, and what lispers.net calls lisp-crypto.
 *
 * Neither says who the other side is, so nothing is believed of a packet because it opened: it is judged as if it had come
 * in clear. Only packets that may leave in clear are encrypted so; a peer that seals never is.
 *
 *   RFC 8061, suite 5:  LISP header (KK) | counter (12) | inner packet, AES-128-GCM | tag (16)
 *   lispers.net, 2:     LISP header (KK) | IV (16) | inner packet and 0x20 to whole blocks, AES-128-CBC | ICV (20)
 *   lispers.net, 5:     LISP header (KK) | IV (12) | the same, AES-128-GCM without header | tag (16) | ICV (20)
 *
 * ICV: HMAC-SHA-256 over all before it, cut. lispers.net's IV is one number that counts up from a random one: a window over
 * it has packets open once. Keys are by the locator's address; those of both directions are different ones.
 */
#ifndef LM_DIALECT_H
#define LM_DIALECT_H

#include "seal/session.h"

#define LM_DIALECT_ICV 20u
#define LM_DIALECT_INTEGRITY 16u
#define LM_DIALECT_OCTETS 64u /* at most, that a packet has more than a clear one: padding, IV, tag, ICV */

enum lm_dialect { LM_DIALECT_NONE = 0, LM_DIALECT_RFC8061 = 1, LM_DIALECT_LISPERS_2 = 2, LM_DIALECT_LISPERS_5 = 5 };

struct lm_engine;
struct lm_job;
struct lm_outer;
struct lm_remote;

struct lm_dialect_spec {
    struct lm_addr address; /* the locator's */
    uint8_t dialect;        /* enum lm_dialect */
    uint8_t key_id;         /* 1 to 3, in the KK bits */
    bool seals;             /* packets to it; else packets from it */
    uint8_t key[16], integrity[LM_DIALECT_INTEGRITY];
    uint64_t start_high, start_low; /* lispers.net: where the IV starts */
};

struct lm_dialects {
    struct lm_table *out, *in; /* by address; of what comes in the key-id stands for the Instance-ID */
};

/* NULL: out of memory. */
struct lm_dialects *lm_dialects_new(const struct lm_key *key);
void lm_dialects_free(struct lm_dialects *dialects);

/* Uses the key from now on in place of the one before; what lispers.net sealed with that one still opens. 0 or -errno. */
int lm_dialect_install(struct lm_engine *e, const struct lm_dialect_spec *spec);
/* Forgets the keys to a locator (`seals`), or from it. */
void lm_dialect_forget(struct lm_engine *e, const struct lm_addr *address, bool seals);
/* Packets sealed with the present key to the locator, opened with those from it. */
struct lm_dialect_use {
    uint64_t sent, opened;
    uint8_t dialect_out, dialect_in; /* enum lm_dialect */
};
struct lm_dialect_use lm_dialect_used(struct lm_engine *e, const struct lm_addr *address);

/* The key for packets of this job, whose locator is chosen; NULL: they leave in clear. */
struct lm_session *lm_dialect_choose(const struct lm_engine *e, const struct lm_job *job,
                                     const struct lm_remote *mapped);
/* As lm_session_seal(), for a session that has a dialect. */
size_t lm_dialect_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                       size_t count, uint8_t *out);
/* Octets that packets of this session have more than clear ones: exactly, or at most where they are padded. */
size_t lm_dialect_octets(const struct lm_session *session);
/* All packets of one inner length have one length; else they are padded. */
bool lm_dialect_is_even(const struct lm_session *session);

enum lm_dialect_verdict { LM_DIALECT_OTHER, LM_DIALECT_LOST, LM_DIALECT_OPENED };
/*
 * Opens a datagram with KK set from a locator that we have a key of, in place. OTHER: there is none. OPENED: `data` tells of
 * the inner packet, which begins `head` octets behind the start. LOST: counted.
 */
enum lm_dialect_verdict lm_dialect_open(struct lm_engine *e, uint8_t *datagram, size_t length,
                                        const struct lm_outer *outer, struct lm_data *data, size_t *head);
/* One packet by one session, without an engine. Octets of the inner packet and its padding; 0: it does not open. */
size_t lm_dialect_open_one(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length, size_t *head,
                           enum lm_session_verdict *why);
struct lm_session *lm_dialect_session(const struct lm_dialect_spec *spec);

#endif
