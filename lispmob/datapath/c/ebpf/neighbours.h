/*
 * Discards packets that the kernel holds for a path that is gone.
 *
 * The kernel queues packets for an unresolved neighbour for three seconds. After an address or a route has gone,
 * packets that the programs redirect before we learn of it end up there, because the destination is treated as a
 * neighbour. TCP does not retransmit what its own host still holds, so the stream would stall for three seconds. So the
 * unresolved neighbours of that interface are deleted, and the packets with them. A real neighbour answers within the
 * first milliseconds, and is not deleted.
 *
 * Deleting takes the lock for network configuration, which the process that removed the path may still hold. A separate
 * thread waits for it.
 */
#ifndef LM_NEIGHBOURS_H
#define LM_NEIGHBOURS_H

#include <stddef.h>
#include <stdint.h>

struct lm_neighbours;

/* Starts the thread. NULL: no memory, no thread or no netlink. */
struct lm_neighbours *lm_neighbours_start(void);
/* Sets the current uplinks. Former ones are still handled for a while, other interfaces never. */
void lm_neighbours_know(struct lm_neighbours *neighbours, const int *ifindexes, size_t count);
/*
 * An address or a route of a family (AF_INET, AF_INET6; 0: both, with the carrier) was lost on an interface (0: any).
 */
void lm_neighbours_lost(struct lm_neighbours *neighbours, int ifindex, uint8_t family);
/* Stops the thread, and returns when it has ended. NULL is allowed. */
void lm_neighbours_stop(struct lm_neighbours *neighbours);

#endif
