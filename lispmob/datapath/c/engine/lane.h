/*
 * A lane is a TUN descriptor whose packets are for one uplink. read() does not return the mark of a packet, so the
 * descriptor identifies it. Packets from an uplink are written to the descriptor of that uplink.
 */
#ifndef LM_LANE_H
#define LM_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LM_LANES_MAX 64
#define LM_COPYING_MAX 8    /* marks whose packets leave twice */
#define LM_LANE_DEFAULT 0   /* no mark: priority and weight decide */
#define LM_LANE_UNUSABLE -1 /* a mark that names no uplink */

struct lm_lane {
    int fd;
    int ifindex;          /* or LM_LANE_DEFAULT, LM_LANE_UNUSABLE */
    uint32_t mark, queue; /* mark of the uplink, within the mask; queue of the TUN. For the BPF programs */
    int into;             /* the descriptor for packets from the uplink */
};

/* A mark of no uplink. Its packets leave by `first`, and if they are sealed also by `second`. */
struct lm_copying {
    int lane;          /* in place of an ifindex */
    int first, second; /* ifindexes; second 0: there is none */
};

struct lm_engine;
struct lm_job;

/*
 * Returns the lane of a descriptor; NULL: it is no lane, or no longer one. The caller holds the lock, as for all
 * functions here.
 */
const struct lm_lane *lm_lane_find(const struct lm_engine *e, int fd);
/* Returns the descriptor for packets from an uplink: the TUN itself if the uplink has no lane. */
int lm_lane_into(const struct lm_engine *e, int ifindex);
/*
 * Chooses locator and path on the uplink of the job, whatever its priority; false: the uplink has none for the job. A
 * lane that copies uses its first uplink, or else its second. It uses both if the job is sealed.
 */
bool lm_lane_choose(struct lm_engine *e, struct lm_job *job);
/* True when packets of the lane leave twice. */
bool lm_lane_copies(const struct lm_engine *e, int lane);

#endif
