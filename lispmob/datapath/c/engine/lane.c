/* Lanes: which uplink the packets of a descriptor are meant for, and where packets of an uplink are handed over. */
#include "engine/lane.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/engine.h"

const struct lm_lane *lm_lane_find(const struct lm_engine *e, int fd)
{
    for (size_t i = 0; i < e->lane_count; i++)
        if (e->lanes[i].fd == fd)
            return &e->lanes[i];
    return NULL;
}

int lm_lane_into(const struct lm_engine *e, int ifindex)
{
    for (size_t i = 0; ifindex > 0 && i < e->lane_count; i++)
        if (e->lanes[i].ifindex == ifindex)
            return e->lanes[i].into;
    return e->tun;
}

bool lm_lane_choose(struct lm_engine *e, struct lm_job *job)
{
    if (job->lane == LM_LANE_DEFAULT)
        return false;
    job->remote = lm_locator_choose(job->set, lm_uplinks_families(e->uplinks, job->lane, true), job->flow);
    job->path = job->remote ? lm_uplinks_path(e->uplinks, job->lane, job->remote->address.family) : NULL;
    if (job->path)
        lm_outbound_turn(job);
    return job->path != NULL;
}

int lm_lane_set_all(struct lm_engine *e, const struct lm_lane *lanes, size_t count, bool drops_unusable)
{
    int error = 0;
    if (count > LM_LANES_MAX)
        return -E2BIG;
    pthread_mutex_lock(&e->writer);
    lm_take(&e->lock);
    struct lm_lane before[LM_LANES_MAX];
    size_t before_count = e->lane_count;
    memcpy(before, e->lanes, sizeof before);
    memcpy(e->lanes, lanes, count * sizeof *lanes);
    e->lane_count = count;
    e->drops_unusable = drops_unusable;
    for (size_t i = 0; i < before_count; i++)
        if (!lm_lane_find(e, before[i].fd))
            (void)epoll_ctl(e->poll_out, EPOLL_CTL_DEL, before[i].fd, NULL);
    for (size_t i = 0; i < count && !error; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = lanes[i].fd};
        if (epoll_ctl(e->poll_out, EPOLL_CTL_ADD, lanes[i].fd, &event) && errno != EEXIST)
            error = -errno;
    }
    lm_give_back(&e->lock);
    lm_reflect_lanes(e);
    pthread_mutex_unlock(&e->writer);
    return error;
}
