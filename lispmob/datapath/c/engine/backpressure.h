/* Packets for an uplink without room, and the TUN queues that are paused meanwhile. */
#ifndef LM_BACKPRESSURE_H
#define LM_BACKPRESSURE_H

#include "engine/lane.h"
#include "engine/pending.h"

#define LM_BUSY_MAX 64

struct lm_busy {
    int fd;
    bool has_event; /* an event will report room */
};

struct lm_backpressure {
    struct lm_pending *packets;
    struct lm_busy busy[LM_BUSY_MAX]; /* sockets without room since packets were last retried */
    size_t busy_count;
    uint64_t again_at; /* when to retry; nanoseconds, as lm_clock_now() */
    struct lm_paused {
        int fd;
        uint64_t until;         /* nanoseconds, as lm_clock_now() */
    } paused[LM_LANES_MAX + 1]; /* of the outbound thread */
    size_t paused_count;
};

/* True when packets wait for this socket. Later packets must queue behind them. */
bool lm_backpressure_has(const struct lm_engine *e, const struct lm_job *job, int fd);
/* Keeps the packet of a job. `has_event`: the socket itself is full, and an event will report room. */
void lm_backpressure_add(struct lm_engine *e, const struct lm_job *job, int fd, bool has_event);
/* Stops reading a TUN descriptor for a while, unless other uplinks have packets there. */
void lm_backpressure_pause(struct lm_engine *e, int fd, int lane);
/* Reports that a socket has room. */
void lm_backpressure_on_room(struct lm_engine *e, int fd);
/* Returns the milliseconds until something is due; -1: nothing is. */
int lm_backpressure_timeout(struct lm_engine *e);
/* Retries packets, and reads paused queues again, when they are due. */
void lm_backpressure_check(struct lm_engine *e);

#endif
