/*
 * Fragments packets that are larger than the path MTU and whose source cannot send smaller ones. The kernel and the
 * routers do it.
 *
 * A pool has a socket for such packets (table/uplink.h). A data port has only one socket, and behind a NAT no other
 * port may be used. So it allows fragments for one packet, by one thread at a time. Packets that others send by it
 * meanwhile may be fragmented too, which does no harm.
 */
#ifndef LM_PIECES_H
#define LM_PIECES_H

#include <stdbool.h>

struct lm_pieces {
    int fd, dont_fragment;
    bool is_v4;
};

/* Allows the fragmentation of what leaves by this socket, until lm_pieces_end, which the caller must call. */
struct lm_pieces lm_pieces_begin(int fd, bool is_v4);
void lm_pieces_end(const struct lm_pieces *begun);

#endif
