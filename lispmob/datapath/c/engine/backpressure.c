/*
 * Keeps packets for an uplink without room, and stops reading the TUN queue that they came from. So the queue fills up,
 * and a sender that sends too much loses packets there, as with any other device. A queue that several uplinks share is
 * still read, because a full queue would cost the other uplinks packets. Then the oldest waiting packets are dropped.
 * The outbound thread does this. The control side also adds packets, while it holds the lock exclusively.
 */
#include "engine/backpressure.h"

#include <sys/epoll.h>

#include "engine/engine.h"

#define EVENT_NS 10000000u   /* a socket reports room late: when half of its buffer is free */
#define NO_EVENT_NS 1000000u /* the queue of a device reports no room at all */
#define PAUSE_NS 1000000000u /* after this time one batch is read, even without room */

static const struct lm_busy *find(const struct lm_backpressure *h, int fd)
{
    for (size_t i = 0; i < h->busy_count; i++)
        if (h->busy[i].fd == fd)
            return &h->busy[i];
    return NULL;
}

bool lm_backpressure_has(const struct lm_engine *e, const struct lm_job *job, int fd)
{
    return !job->is_relayed && e->backpressure.busy_count && find(&e->backpressure, fd);
}

void lm_backpressure_add(struct lm_engine *e, const struct lm_job *job, int fd, bool has_event)
{
    struct lm_backpressure *h = &e->backpressure;
    if (!find(h, fd) && h->busy_count < LM_BUSY_MAX) {
        uint64_t again = lm_clock_now() + (has_event ? EVENT_NS : NO_EVENT_NS);
        struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = fd};
        h->again_at = h->busy_count == 0 || again < h->again_at ? again : h->again_at;
        h->busy[h->busy_count++] = (struct lm_busy){fd, has_event};
        /* If only the device is full, this wakes the outbound thread, which then checks the time. */
        if (epoll_ctl(e->poll_out, EPOLL_CTL_ADD, fd, &event))
            (void)epoll_ctl(e->poll_out, EPOLL_CTL_MOD, fd, &event);
    }
    if (!job->is_retry)
        lm_count(&e->counters, LM_out_held);
    (void)lm_pending_add(h->packets, (uint32_t)job->path->ifindex, &job->path->address, &job->vnet, job->packet,
                         job->inner.length, job->lane, job->born, job->now);
}

/* True when the lane may carry packets for more than one uplink. */
static bool is_shared(const struct lm_engine *e, int lane)
{
    const struct lm_uplinks *u = e->uplinks;
    for (size_t i = 1; lane == LM_LANE_DEFAULT && i < u->path_count; i++)
        if (u->paths[i].ifindex != u->paths[0].ifindex)
            return true;
    return false;
}

static void listen_to(struct lm_engine *e, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    (void)epoll_ctl(e->poll_out, EPOLL_CTL_MOD, fd, &event);
}

void lm_backpressure_pause(struct lm_engine *e, int fd, int lane)
{
    struct lm_backpressure *h = &e->backpressure;
    if (is_shared(e, lane) || h->paused_count > LM_LANES_MAX)
        return;
    h->paused[h->paused_count++] = (struct lm_paused){.fd = fd, .until = lm_clock_now() + PAUSE_NS};
    listen_to(e, fd, 0);
}

void lm_backpressure_on_room(struct lm_engine *e, int fd)
{
    const struct lm_busy *busy = find(&e->backpressure, fd);
    if (busy && busy->has_event)
        e->backpressure.again_at = 0;
}

static bool has_packets(const struct lm_backpressure *h)
{
    return lm_pending_count(h->packets) > 0;
}

int lm_backpressure_timeout(struct lm_engine *e)
{
    lm_share(&e->lock);
    const struct lm_backpressure *h = &e->backpressure;
    uint64_t at = has_packets(h) ? h->again_at : UINT64_MAX, now = lm_clock_now();
    for (size_t i = 0; i < h->paused_count; i++)
        at = h->paused[i].until < at ? h->paused[i].until : at;
    lm_unshare(&e->lock);
    if (at == UINT64_MAX)
        return -1;
    return at > now ? (int)((at - now) / 1000000u) + 1 : 0;
}

static void try_again(struct lm_engine *e)
{
    e->backpressure.busy_count = 0;
    lm_pending_release(e->backpressure.packets, NULL);
    lm_outbound_retry(e, e->backpressure.packets);
}

/* Reads paused queues again. A descriptor that is no longer a lane may have been reused, so it is not read. */
static void read_again(struct lm_engine *e, uint64_t now)
{
    struct lm_backpressure *h = &e->backpressure;
    size_t left = 0;
    for (size_t i = 0; i < h->paused_count; i++) {
        int fd = h->paused[i].fd;
        if (has_packets(h) && now < h->paused[i].until)
            h->paused[left++] = h->paused[i];
        else if (fd == e->tun || lm_lane_find(e, fd))
            listen_to(e, fd, EPOLLIN);
    }
    h->paused_count = left;
}

void lm_backpressure_check(struct lm_engine *e)
{
    struct lm_backpressure *h = &e->backpressure;
    uint64_t now = lm_clock_now();
    lm_share(&e->lock);
    if (h->busy_count && now >= h->again_at)
        try_again(e);
    if (h->paused_count)
        read_again(e, now);
    lm_unshare(&e->lock);
}
