/*
 * Discards packets that the kernel holds for a path that is gone.
 *
 * The kernel queues packets for an unresolved neighbour for three seconds. After an address or a route has gone,
 * packets that the programs redirect before we hear of it end up there, because the destination is treated as a
 * neighbour. TCP retransmits nothing that its own host still holds, so the stream would stall for as long. So the
 * unresolved neighbours of that interface are deleted, and the packets with them. Deleting takes the lock for network
 * configuration, which the process that removed the path may still hold; a separate thread waits for it. A real
 * neighbour answers within the first milliseconds, and is not deleted.
 */
#ifndef LM_NEIGHBOURS_H
#define LM_NEIGHBOURS_H

#include <stddef.h>
#include <stdint.h>

struct lm_neighbours;

/* NULL: no memory, no thread or no netlink. */
struct lm_neighbours *lm_neighbours_start(void);
/* The current uplinks. Former ones are still handled for a while, other interfaces never. */
void lm_neighbours_know(struct lm_neighbours *neighbours, const int *ifindexes, size_t count);
/*
 * An address or a route of one family (AF_INET, AF_INET6) was lost on an interface; 0: any interface, or both families
 * with the carrier.
 */
void lm_neighbours_lost(struct lm_neighbours *neighbours, int ifindex, uint8_t family);
/* Returns when the thread has ended. NULL is allowed. */
void lm_neighbours_stop(struct lm_neighbours *neighbours);

#endif
