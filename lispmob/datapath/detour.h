/*
 * Whether the kernel may lead an outer IPv6 packet astray that a program redirects.
 *
 * To redirect is to have the kernel look up the next hop. For IPv4 it takes only routes of the interface that the program
 * names; for IPv6, without a socket that is bound to the interface, it takes the best route of all and believes that its
 * next hop is on that interface (ip6_route_output_flags, Linux 6.18). So with IPv6 routes by a second interface, whatever
 * it is, outer IPv6 is sent by the tun tier, whose sockets are bound.
 */
#ifndef LM_DETOUR_H
#define LM_DETOUR_H

#include <stdbool.h>

/* `device`: the name of our TUN, which does not count, nor do names that continue it. True, too, where it cannot be seen. */
bool lm_detour_is_possible(const char *device);
/* One line of /proc/net/ipv6_route: the interface of a route that may lead astray; NULL: none such. Changes the line. */
const char *lm_detour_interface(char *line, const char *device);

#endif
