/* Packets for which an uplink has no room at the moment, and the queues of the TUN that are not read meanwhile. */
#ifndef LM_HOLD_H
#define LM_HOLD_H

#include "engine/lane.h"
#include "engine/pending.h"

#define LM_BUSY_MAX 64

struct lm_busy {
    int fd;
    bool is_told; /* there will be an event when it has room again */
};

struct lm_hold {
    struct lm_pending *packets;
    struct lm_busy busy[LM_BUSY_MAX]; /* sockets that had no room since packets were tried again */
    size_t busy_count;
    uint64_t again_at; /* when to try again */
    struct lm_paused {
        int fd;
        uint64_t until;         /* nanoseconds, as lm_clock_now() */
    } paused[LM_LANES_MAX + 1]; /* the outbound thread's */
    size_t paused_count;
};

/* True when packets wait for this socket: those that follow stay behind them. */
bool lm_backpressure_has(const struct lm_engine *e, const struct lm_job *job, int fd);
/* Keeps the packet of a job; `is_told`: the socket is what is full, and will tell. */
void lm_backpressure_add(struct lm_engine *e, const struct lm_job *job, int fd, bool is_told);
/* Stops reading a descriptor of the TUN for a while, unless other uplinks have packets there. */
void lm_backpressure_pause(struct lm_engine *e, int fd, int lane);
/* A socket has room. */
void lm_backpressure_on_room(struct lm_engine *e, int fd);
/* Milliseconds until there is something to do; -1: nothing. */
int lm_backpressure_timeout(struct lm_engine *e);
/* Tries again, and reads again, what it is time for. */
void lm_backpressure_check(struct lm_engine *e);

#endif
