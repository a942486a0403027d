/* Packets for an uplink without room, and the TUN queues that are not read meanwhile. */
#ifndef LM_BACKPRESSURE_H
#define LM_BACKPRESSURE_H

#include "engine/lane.h"
#include "engine/pending.h"

#define LM_BUSY_MAX 64

struct lm_busy {
    int fd;
    bool is_told; /* an event will report room */
};

struct lm_hold {
    struct lm_pending *packets;
    struct lm_busy busy[LM_BUSY_MAX]; /* sockets without room since packets were last retried */
    size_t busy_count;
    uint64_t again_at; /* when to try again */
    struct lm_paused {
        int fd;
        uint64_t until;         /* nanoseconds, as lm_clock_now() */
    } paused[LM_LANES_MAX + 1]; /* of the outbound thread */
    size_t paused_count;
};

/* True when packets wait for this socket: later ones queue behind them. */
bool lm_backpressure_has(const struct lm_engine *e, const struct lm_job *job, int fd);
/* Keeps the packet of a job; `is_told`: the socket itself is full, and will report room. */
void lm_backpressure_add(struct lm_engine *e, const struct lm_job *job, int fd, bool is_told);
/* Stops reading a TUN descriptor for a while, unless other uplinks have packets there. */
void lm_backpressure_pause(struct lm_engine *e, int fd, int lane);
/* A socket has room. */
void lm_backpressure_on_room(struct lm_engine *e, int fd);
/* Milliseconds until something is due; -1: nothing. */
int lm_backpressure_timeout(struct lm_engine *e);
/* Retries packets, and reads queues again, when due. */
void lm_backpressure_check(struct lm_engine *e);

#endif
