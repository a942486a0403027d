/*
 * A lane is a TUN descriptor whose packets are for one uplink: read() does not return the mark of a packet, but the
 * descriptor identifies it. Packets from an uplink are written to that uplink's descriptor.
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
    int ifindex;          /* or one of the above */
    uint32_t mark, queue; /* of the uplink, within the mask; of the TUN. For the BPF programs */
    int into;             /* the descriptor for packets from the uplink */
};

/* A mark of no uplink: its packets leave by the first one, and if sealed also by the second. */
struct lm_copying {
    int lane;          /* in place of an ifindex */
    int first, second; /* ifindexes; second 0: there is none */
};

struct lm_engine;
struct lm_job;

/* NULL: the descriptor is no lane (any more). The caller holds the lock, as for all of these. */
const struct lm_lane *lm_lane_find(const struct lm_engine *e, int fd);
/* The descriptor for packets from an uplink; the TUN itself if it has no lane. */
int lm_lane_into(const struct lm_engine *e, int ifindex);
/*
 * Chooses locator and path on the job's uplink, whatever its priority; false: it has none for the job. With a lane that
 * copies: on its first uplink, else on its second; and on both if the job is sealed.
 */
bool lm_lane_choose(struct lm_engine *e, struct lm_job *job);
/* True when packets of the lane leave twice. */
bool lm_lane_copies(const struct lm_engine *e, int lane);

#endif
