/* Sealing of outgoing packets: the session of a packet, whether it waits for one, and its format. */
#ifndef LM_SEALED_OUT_H
#define LM_SEALED_OUT_H

#include "seal/peers.h"

#define LM_SEALED_NEST 64u          /* the most octets of headers before a packet that is sealed from EID to EID */
#define LM_SEALED_ROOM (384u << 10) /* octets of a thread's sealed packets for one system call */

struct lm_engine;
struct lm_job;
struct lm_remote;

/* Sets the calling thread's number among those that seal and open; the control side needs no call. */
void lm_sealed_out_set_thread(unsigned number);
unsigned lm_sealed_out_thread(void);
/* The calling thread's buffer of LM_SEALED_ROOM octets. */
uint8_t *lm_sealed_out_room(struct lm_engine *e);
/* A buffer for one more packet, sent alone while those wait; with LM_SEALED_NEST octets before it. */
uint8_t *lm_sealed_out_single(struct lm_engine *e);

/*
 * Finds the session of a job whose locator set is known. False: the packet is done: it waits for a key or is dropped.
 * True without a session: it leaves in clear, as its entry allows.
 */
bool lm_sealed_out_admit(struct lm_engine *e, struct lm_job *job);
/*
 * True when the job goes to a relay between us and the peer: the sealed packet is then addressed from EID to EID,
 * inside a packet that the relay can read. `mapped`: the mapping's remote.
 */
bool lm_sealed_out_nests(const struct lm_job *job, const struct lm_remote *mapped);
/* Octets that sealing adds to a job's packets. */
size_t lm_sealed_out_overhead(const struct lm_job *job);
/*
 * The two halves of lm_sealed_out_put, for a datagram that leaves by several ways: the headers of one way, which end at
 * `sealed` and its octets, with their start and length; and their contents, sealed once. Sealing twice with one counter
 * would reveal the key if a header changed in between.
 */
const uint8_t *lm_sealed_out_wrap(struct lm_engine *e, const struct lm_job *job, uint8_t *sealed, size_t *octets);
size_t lm_sealed_out_seal(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                          size_t count, uint8_t *out);
/*
 * Writes one datagram: LISP header, and the sealed parts; for a nested one also all outer headers. Returns its octets;
 * 0: it failed, counted.
 */
size_t lm_sealed_out_put(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                         size_t count, uint8_t *out);
/* The IP and UDP headers from EID to EID, with equal ports, for a payload of this many octets; returns their octets. */
size_t lm_sealed_out_put_udp(uint8_t *out, const struct lm_inner *inner, uint16_t port, size_t payload);
/* Whether this many packets may go to the job's locator, which may be on trial; false: counted. */
bool lm_sealed_out_may_go(struct lm_engine *e, const struct lm_job *job, size_t count);
/* Counters for this many packets of the job; false: the key has none left, counted. */
bool lm_sealed_out_number(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first);
/* Both of the above. */
bool lm_sealed_out_take(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first);
/* Sends the packets that waited for the peer's key: from the thread that may access them, with the lock. */
void lm_sealed_out_release(struct lm_engine *e, uint32_t peer);
/* Another thread confirmed the key: wakes the outbound thread, which then sends the waiting packets. */
void lm_sealed_out_wake(struct lm_engine *e);
void lm_sealed_out_check(struct lm_engine *e);

#endif
