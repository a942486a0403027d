/*
 * Whether the kernel would lead an outer IPv6 packet astray that a program redirects.
 *
 * To redirect is to have the kernel look up the next hop. For IPv4 it takes only routes of the interface that the program
 * names; for IPv6, without a socket that is bound to the interface, it takes the best route of all and believes that its
 * next hop is on that interface (ip6_route_output_flags, Linux 6.18). So outer IPv6 takes the short way to the remotes
 * whose best route leads out of the interface anyway, and goes to all others by the tun tier, whose sockets are bound.
 *
 * Giving the programs the next hop itself does not help. A packet queued for neighbour resolution gets the link-layer
 * header of the TUN, which is empty, because the kernel takes it from the original route (neigh_update, Linux 6.18).
 */
#ifndef LM_DETOUR_H
#define LM_DETOUR_H

#include "base/address.h"

struct lm_engine;
struct lm_path;
struct lm_remote;

/* A packet of UDP, as the kernel looks for a route for it. */
struct lm_detour_question {
    int ifindex; /* where it should go out */
    uint32_t mark;
    struct lm_addr source, destination; /* IPv6 */
    uint16_t source_port, destination_port;
};

/* True, too, when there is no route. Four system calls; none of them waits for a lock. */
bool lm_route_check_is_taken(const struct lm_detour_question *question);

/* A packet has left by the path for the remote: the programs are told, if they do not know it yet. Any thread, sharing. */
void lm_route_check_tell(struct lm_engine *e, const struct lm_path *path, const struct lm_remote *remote);
/* Routes may have changed: all of it is asked again. */
void lm_route_check_forget(struct lm_engine *e);

#endif
