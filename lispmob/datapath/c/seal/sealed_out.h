/* Sealing on the way out: with which session a packet leaves, whether it waits for one, and how it looks then. */
#ifndef LM_SEALED_OUT_H
#define LM_SEALED_OUT_H

#include "seal/peers.h"

#define LM_SEALED_NEST 64u          /* octets at most of the headers before a packet that is sealed from EID to EID */
#define LM_SEALED_ROOM (384u << 10) /* octets of a thread's sealed packets that wait for one system call */

struct lm_engine;
struct lm_job;
struct lm_remote;

/* The calling thread's number among those that seal and open; the control side's without this call. */
void lm_sealed_out_set_thread(unsigned number);
unsigned lm_sealed_out_thread(void);
/* Where the calling thread has room for LM_SEALED_ROOM octets. */
uint8_t *lm_sealed_out_room(struct lm_engine *e);
/* And for one more, that leaves by itself while those wait; with room for LM_SEALED_NEST octets before it. */
uint8_t *lm_sealed_out_single(struct lm_engine *e);

/*
 * Looks for the session of a job whose locator set is known. False: the packet is dealt with, it waits for a key or is
 * lost. True without a session: it leaves in clear, as its entry allows.
 */
bool lm_sealed_out_admit(struct lm_engine *e, struct lm_job *job);
/*
 * True when the job goes to a relay between us and the peer: the sealed packet is then addressed from EID to EID, and is
 * the inner packet of one that the relay can read. `mapped`: the remote that the mapping led to.
 */
bool lm_sealed_out_nests(const struct lm_job *job, const struct lm_remote *mapped);
/* Octets that a job's packets have more than clear ones. */
size_t lm_sealed_out_overhead(const struct lm_job *job);
/*
 * The two halves of what comes next, for a datagram that leaves by several ways: the headers of one way, which end at
 * `sealed`, with its octets behind them, their start and their octets in all; and what they hold, sealed once. To seal it twice with one
 * counter would give the key away where a header had changed meanwhile.
 */
const uint8_t *lm_sealed_out_wrap(struct lm_engine *e, const struct lm_job *job, uint8_t *sealed, size_t *octets);
size_t lm_sealed_out_seal(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                          size_t count, uint8_t *out);
/*
 * Writes one datagram: LISP header, and what the parts hold, sealed; for a nested one all headers of the way, too. Its
 * octets; 0: it cannot be, counted.
 */
size_t lm_sealed_out_put(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                         size_t count, uint8_t *out);
/* The IP and UDP headers from EID to EID, both ports the same, for a payload of so many octets; their octets. */
size_t lm_sealed_out_put_udp(uint8_t *out, const struct lm_inner *inner, uint16_t port, size_t payload);
/* Whether so many packets may go to the job's locator, which may be on trial; false: counted. */
bool lm_sealed_out_may_go(struct lm_engine *e, const struct lm_job *job, size_t count);
/* Counters for so many packets of the job; false: the key has no more, counted. */
bool lm_sealed_out_number(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first);
/* Both of these. */
bool lm_sealed_out_take(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first);
/* The packets that waited for the peer's key leave: by the thread that may touch them, with the lock. */
void lm_sealed_out_release(struct lm_engine *e, uint32_t peer);
/* Another thread found the key to be good: wakes the outbound thread, which then releases what waits. */
void lm_sealed_out_wake(struct lm_engine *e);
void lm_sealed_out_check(struct lm_engine *e);

#endif
