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
struct lm_route_question {
    int ifindex; /* the interface that it should leave by */
    uint32_t mark;
    struct lm_addr source, destination; /* IPv6 */
    uint16_t source_port, destination_port;
};

/*
 * True when the kernel would route the packet out of another interface, or not at all. It makes four system calls, none
 * of which waits for a lock.
 */
bool lm_route_check_is_taken(const struct lm_route_question *question);

/*
 * A packet was sent by the path to the remote: informs the programs about the route if they do not know it yet. For any
 * thread, with the lock shared.
 */
void lm_route_check_tell(struct lm_engine *e, const struct lm_path *path, const struct lm_remote *remote);
/* Voids all results, because routes may have changed. */
void lm_route_check_forget(struct lm_engine *e);

#endif
