/* Finds the uplink for the packets of a descriptor, and the descriptor for packets from an uplink. */
#include "engine/lane.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/engine.h"

#define OTHER_DRAWS 4u /* draws to find another locator of the same peer */

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

static bool choose_by(struct lm_engine *e, struct lm_job *job, int ifindex)
{
    job->remote = lm_locator_choose(job->set, lm_uplinks_families(e->uplinks, ifindex, true), job->flow);
    job->path = job->remote ? lm_uplinks_path(e->uplinks, ifindex, job->remote->address.family) : NULL;
    if (job->path)
        lm_outbound_turn(e, job);
    return job->path != NULL;
}

static const struct lm_copying *copying_of(const struct lm_engine *e, int lane)
{
    for (size_t i = 0; i < e->copying_count; i++)
        if (e->copying[i].lane == lane)
            return &e->copying[i];
    return NULL;
}

bool lm_lane_copies(const struct lm_engine *e, int lane)
{
    return copying_of(e, lane) != NULL;
}

/* Sends the copy to another, equally good locator of the peer, if there is one. */
static void turn_elsewhere(const struct lm_engine *e, struct lm_job *copy, const struct lm_remote *taken)
{
    unsigned families = lm_uplinks_families(e->uplinks, copy->path->ifindex, true);
    for (uint64_t i = 1; copy->remote == taken && i <= OTHER_DRAWS; i++) {
        struct lm_remote *other = lm_locator_choose(copy->set, families, copy->flow + i * UINT64_C(0x9e3779b97f4a7c15));
        const struct lm_path *path =
            other ? lm_uplinks_path(e->uplinks, copy->path->ifindex, other->address.family) : NULL;
        if (!path || other == taken)
            continue;
        copy->path = path;
        copy->remote = other;
        lm_outbound_turn(e, copy);
    }
}

bool lm_lane_choose(struct lm_engine *e, struct lm_job *job)
{
    job->copy = (struct lm_way){0};
    if (job->lane == LM_LANE_DEFAULT)
        return false;
    const struct lm_copying *copying = copying_of(e, job->lane);
    if (!copying)
        return choose_by(e, job, job->lane);
    struct lm_job second = *job;
    bool has_second = copying->second && choose_by(e, &second, copying->second);
    bool has_first = choose_by(e, job, copying->first);
    if (has_first && has_second)
        turn_elsewhere(e, &second, job->remote);
    struct lm_way way = {second.path, second.remote, second.is_nested};
    if (has_first && has_second && job->seal && !job->seal->dialect) {
        job->copy = way;
    } else if (!has_first && has_second) {
        lm_way_take(job, &way);
        job->seal = second.seal;
    }
    return has_first || has_second;
}

int lm_lane_set_all(struct lm_engine *e, const struct lm_lane *lanes, size_t count, const struct lm_copying *copying,
                    size_t copying_count, bool drops_unusable)
{
    int error = 0;
    if (count > LM_LANES_MAX || copying_count > LM_COPYING_MAX)
        return -E2BIG;
    pthread_mutex_lock(&e->writer);
    lm_take(&e->lock);
    struct lm_lane before[LM_LANES_MAX];
    size_t before_count = e->lane_count;
    memcpy(before, e->lanes, sizeof before);
    memcpy(e->lanes, lanes, count * sizeof *lanes);
    e->lane_count = count;
    if (copying_count)
        memcpy(e->copying, copying, copying_count * sizeof *copying);
    e->copying_count = copying_count;
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
