/*
 * Packets larger than their path MTU whose source cannot send less: the kernel and the routers fragment them.
 * The sockets of a pool leave that to one of their own (table/uplink.h). A data port has one socket for everything, and
 * behind a NAT no other port will do: so it allows pieces for one packet, by one thread at a time. What others send by it
 * meanwhile may be cut as well, which harms nothing.
 */
#ifndef LM_PIECES_H
#define LM_PIECES_H

#include <stdbool.h>

struct lm_pieces {
    int fd, dont_fragment;
    bool is_v4;
};

/* Until lm_pieces_end, which must follow: what leaves by this socket, of IPv4 or IPv6, may be cut. */
struct lm_pieces lm_pieces_begin(int fd, bool is_v4);
void lm_pieces_end(const struct lm_pieces *begun);

#endif
