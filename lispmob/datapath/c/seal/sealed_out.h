/* Seals outgoing packets: finds the session of a packet, keeps packets that wait for one, and writes the format. */
#ifndef LM_SEALED_OUT_H
#define LM_SEALED_OUT_H

#include "seal/peers.h"

#define LM_SEALED_NEST 64u          /* the most octets of headers before a packet that is sealed from EID to EID */
#define LM_SEALED_ROOM (384u << 10) /* octets of a thread's sealed packets for one system call */

struct lm_engine;
struct lm_job;
struct lm_remote;

/* Sets the number of the calling thread among those that seal and open. The control side needs no call. */
void lm_sealed_out_set_thread(unsigned number);
unsigned lm_sealed_out_thread(void);
/* Returns the buffer of the calling thread, of LM_SEALED_ROOM octets. */
uint8_t *lm_sealed_out_room(struct lm_engine *e);
/*
 * Returns a buffer for one more packet, which is sent alone while the others wait, with LM_SEALED_NEST octets before
 * it.
 */
uint8_t *lm_sealed_out_single(struct lm_engine *e);

/*
 * Finds the session of a job whose locator set is known. False: the packet waits for a key, or is dropped. True without
 * a session: it leaves in clear, as its entry allows.
 */
bool lm_sealed_out_admit(struct lm_engine *e, struct lm_job *job);
/*
 * True when the job goes to a relay between us and the peer. Then the sealed packet is addressed from EID to EID,
 * inside a packet that the relay can read. `mapped`: the remote of the mapping.
 */
bool lm_sealed_out_nests(const struct lm_job *job, const struct lm_remote *mapped);
/* Returns the octets that sealing adds to the packets of a job. */
size_t lm_sealed_out_overhead(const struct lm_job *job);
/*
 * The two halves of lm_sealed_out_put, for a datagram that leaves by several paths. One writes the headers for one
 * path, which end at `sealed`, and returns their start and the length. The other writes the contents, sealed once:
 * sealing twice with one counter would reveal the key if a header changed in between.
 */
const uint8_t *lm_sealed_out_wrap(struct lm_engine *e, const struct lm_job *job, uint8_t *sealed, size_t *octets);
size_t lm_sealed_out_seal(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                          size_t count, uint8_t *out);
/*
 * Writes one datagram: LISP header and sealed parts; for a nested one also all outer headers. Returns its octets; 0: it
 * failed, and was counted.
 */
size_t lm_sealed_out_put(struct lm_engine *e, const struct lm_job *job, uint64_t counter, const struct iovec *parts,
                         size_t count, uint8_t *out);
/*
 * Writes IP and UDP headers from EID to EID, with equal ports, for a payload of this many octets. Returns their octets.
 */
size_t lm_sealed_out_put_udp(uint8_t *out, const struct lm_inner *inner, uint16_t port, size_t payload);
/* True when this many packets may go to the locator of the job, which may be on trial; false: counted. */
bool lm_sealed_out_may_go(struct lm_engine *e, const struct lm_job *job, size_t count);
/* Reserves counters for this many packets of the job; false: the key has none left, which is counted. */
bool lm_sealed_out_number(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first);
/* Does both: lm_sealed_out_may_go and lm_sealed_out_number. */
bool lm_sealed_out_take(struct lm_engine *e, const struct lm_job *job, size_t count, uint64_t *first);
/*
 * Sends the packets that waited for the key of the peer. The caller is the thread that may access them, and holds the
 * lock.
 */
void lm_sealed_out_release(struct lm_engine *e, uint32_t peer);
/* Wakes the outbound thread, which then sends the waiting packets. For the thread that has confirmed the key. */
void lm_sealed_out_wake(struct lm_engine *e);
void lm_sealed_out_check(struct lm_engine *e);

#endif
