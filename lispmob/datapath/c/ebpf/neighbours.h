/*
 * No packet waits in the kernel for a way that is gone.
 *
 * The kernel keeps packets for a neighbour that it does not know yet, for three seconds. Once an address or a route has gone,
 * what the programs redirect between the loss and our hearing of it lands there: the destination is taken for a neighbour.
 * TCP sends nothing again that its own host still holds, so the stream would stand still for as long. So the unresolved
 * neighbours of that interface are deleted, and the packets with them. Deleting takes the lock under which the network is
 * configured, which whoever took the way away may still hold; a thread of its own waits for that. Whoever is really there
 * answers within the first milliseconds, and is left alone.
 */
#ifndef LM_NEIGHBOURS_H
#define LM_NEIGHBOURS_H

#include <stddef.h>
#include <stdint.h>

struct lm_neighbours;

/* NULL: there is no memory, no thread or no netlink to be had. */
struct lm_neighbours *lm_neighbours_start(void);
/* These interfaces are uplinks now. Others are nobody's business of ours, those of before for a while. */
void lm_neighbours_know(struct lm_neighbours *neighbours, const int *ifindexes, size_t count);
/* An address or a route of one family (AF_INET, AF_INET6) went from an interface; 0: of any, or both with the carrier. */
void lm_neighbours_lost(struct lm_neighbours *neighbours, int ifindex, uint8_t family);
/* Returns when the thread has ended. NULL is allowed. */
void lm_neighbours_stop(struct lm_neighbours *neighbours);

#endif
