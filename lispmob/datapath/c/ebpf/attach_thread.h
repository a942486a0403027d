/*
 * Has the programs of the ebpf tier on the uplinks of the moment, in a thread of its own.
 *
 * Whoever puts a program onto an interface or takes it off waits until every processor has passed by, with the lock held
 * under which all of the network is configured: 5 to 20 ms in which neither a node that moves nor the network that it
 * comes to may be kept waiting. So it is done a moment after the move. Until then the tun tier receives.
 */
#ifndef LM_ATTACHER_H
#define LM_ATTACHER_H

#include "ebpf/loader.h"

struct lm_attacher;

/* NULL: there is no memory or no thread to be had. The uplinks of the tier are its own until it is stopped. */
struct lm_attacher *lm_attacher_start(struct lm_tier *tier);
void lm_attacher_want(struct lm_attacher *attacher, const int *ifindexes, size_t count);
/* Waits until they are attached: for who measures. A node does not wait. */
void lm_attacher_settle(struct lm_attacher *attacher);
/* Returns when the thread has ended; what is attached stays so. NULL is allowed. */
void lm_attacher_stop(struct lm_attacher *attacher);

#endif
