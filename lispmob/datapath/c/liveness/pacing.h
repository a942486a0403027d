/*
 * Pacing for receivers that take packets one by one (liveness/peer_check.h): a tunnel in user space.
 *
 * Such a receiver needs a system call and about 10 us of a processor for each packet, and the buffer of its socket holds
 * about 90 large ones. A batch of TCP super-packets is more than twice as many, and leaves faster. The receiver's kernel
 * drops the rest, and TCP repeats it. Therefore:
 *
 *  1. Packets leave in portions of LM_PORTION. Between two portions the thread offers its processor to others
 *     (sched_yield), because the receiver may be on the same machine.
 *  2. TCP segments that senders repeat are counted for each remote. If more than 1 in 50 is repeated, the interval
 *     between packets to that remote grows; if less than 1 in 200 is, it shrinks, down to none.
 *
 * An interval is at most LM_INTERVAL_MAX_NS, so losses on a slow link, which have other causes, never cost its rate.
 */
#ifndef LM_PACING_H
#define LM_PACING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LM_PORTION 16u            /* ours: a tenth of a receiver's buffer, and worth a system call */
#define LM_PACING_WINDOW 512u     /* segments after which the interval is computed again */
#define LM_INTERVAL_MIN_NS 4000u  /* ours: a shorter one is none; a thread sends hardly faster */
#define LM_INTERVAL_MAX_NS 16000u /* ours: 62,500 packets a second, 0.7 Gbit/s */
#define LM_PACED_FLOWS 64u        /* a power of two */

#include "packet/packet.h"

struct lm_engine;
struct lm_job;

/* Of a remote; written by the outbound thread, or by the control side with the lock held exclusively. */
struct lm_pacing {
    uint64_t due;            /* when the next packet may leave */
    uint32_t interval_ns;    /* between packets; 0: none */
    uint32_t sent, repeated; /* segments of the present window */
};

/* The sequence number after the highest one that a flow has sent; flows may share a place and displace each other. */
struct lm_paced_flow {
    uint32_t flow, next;
};

/* Counts TCP segments, repeated or not, and adapts the interval at the end of a window. */
void lm_pacing_count(struct lm_pacing *pacing, uint32_t segments, bool is_repeated);
/* Nanoseconds to wait before so many packets leave, at `now`; counts them as sent. */
uint64_t lm_pacing_wait_ns(struct lm_pacing *pacing, uint64_t now, size_t packets);

/*
 * Reads a packet or super-packet of TCP with data: is its first segment one that the flow has sent before? Returns false
 * for all other packets. `flows` has LM_PACED_FLOWS places.
 */
bool lm_pacing_read(struct lm_paced_flow *flows, uint32_t flow, const uint8_t *packet, const struct lm_inner *inner,
                    bool *is_repeated);
/* A job is about to be sent: counts its TCP segments. */
void lm_pacing_note(struct lm_engine *e, const struct lm_job *job);
/* Before so many packets leave: waits if the remote of the job needs it, else yields the processor if they are a portion. */
void lm_pacing_pause(const struct lm_job *job, size_t packets);

#endif
