/*
 * A lane is a descriptor of the TUN whose packets are meant for one uplink: read() does not tell the mark of a packet,
 * but the descriptor that it is read from does. What came in by an uplink is written to a descriptor of that uplink's.
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
    uint32_t mark, queue; /* of the uplink, within the mask; of the TUN. For the kernel's programs */
    int into;             /* the descriptor that what came in by the uplink is written to */
};

/* A mark that is no uplink's: its packets leave by the first one, and by the second one too where they are sealed. */
struct lm_copying {
    int lane;          /* stands where others have an ifindex */
    int first, second; /* ifindexes; second 0: there is none */
};

struct lm_engine;
struct lm_job;

/* NULL: the descriptor is no lane (any more). The caller holds the lock, as for all of these. */
const struct lm_lane *lm_lane_find(const struct lm_engine *e, int fd);
/* Where to hand over what came in by an uplink; the TUN itself when it has no lane. */
int lm_lane_into(const struct lm_engine *e, int ifindex);
/*
 * Chooses locator and path among those of the job's uplink, whatever its priority; false: it has none for the job. With
 * a lane that copies: of its first uplink, else of its second; and of both when the job is sealed.
 */
bool lm_lane_choose(struct lm_engine *e, struct lm_job *job);
/* True when packets of the lane are to leave twice. */
bool lm_lane_copies(const struct lm_engine *e, int lane);

#endif
