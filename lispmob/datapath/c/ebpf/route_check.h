/*
 * Checks whether the kernel would route a redirected outer IPv6 packet to another interface.
 *
 * Redirecting makes the kernel look up the next hop. For IPv4 it uses only routes of the interface that the program
 * names. For IPv6, without a socket bound to the interface, it takes the best route of all, and assumes that its next
 * hop is on that interface (ip6_route_output_flags, Linux 6.18). So outer IPv6 takes the fast path only to remotes
 * whose best route leaves by the interface anyway. All others go through the tun tier, whose sockets are bound.
 *
 * Passing the next hop itself to the kernel does not help. A packet queued for neighbour resolution gets the link-layer
 * header of the TUN, which is empty, because the kernel takes it from the original route (neigh_update, Linux 6.18).
 */
#ifndef LM_ROUTE_CHECK_H
#define LM_ROUTE_CHECK_H

#include "base/address.h"

struct lm_engine;
struct lm_path;
struct lm_remote;

/* A UDP packet for the kernel's route lookup. */
struct lm_detour_question {
    int ifindex; /* the interface that it should leave by */
    uint32_t mark;
    struct lm_addr source, destination; /* IPv6 */
    uint16_t source_port, destination_port;
};

/* Also true when there is no route. Four system calls; none waits for a lock. */
bool lm_route_check_is_taken(const struct lm_detour_question *question);

/* A packet was sent by the path to the remote: inform the programs if they do not know yet. Any thread, sharing. */
void lm_route_check_tell(struct lm_engine *e, const struct lm_path *path, const struct lm_remote *remote);
/* Routes may have changed: all results are void. */
void lm_route_check_forget(struct lm_engine *e);

#endif
