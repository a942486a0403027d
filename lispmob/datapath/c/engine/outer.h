/* The outside of one outer packet, or of a run of them: destination, TTL and TOS, shared by send.c and engine/batch.c. */
#ifndef LM_ENVELOPE_H
#define LM_ENVELOPE_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "engine/engine.h"

#define LM_BUSY_WAIT_NS 10000000u /* for room in send buffers: per batch, since updates of the table wait meanwhile */

struct lm_envelope {
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to;
    union {
        struct cmsghdr align;
        uint8_t room[3 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control;
};

/*
 * Addresses `m` for the job, with what it holds left to be set. `run`: octets of each datagram that the kernel is to cut
 * it into (UDP_SEGMENT); 0: it is one.
 */
void lm_send_fill_outer(struct msghdr *m, struct lm_envelope *envelope, const struct lm_job *job, bool copy_dscp,
                        size_t run);
/* Writes the LISP header of the job: Instance-ID, Locator-Status-Bits, echo-nonce. */
void lm_send_put_lisp_header(const struct lm_engine *e, const struct lm_job *job, uint8_t *header);
/* Adds our Locator-Status-Bits, where they are told. */
void lm_send_put_status(const struct lm_engine *e, uint8_t *header);
/* The port that a NAT on the way wants to see, on this side or on the other; else any of the pool. */
int lm_send_socket(const struct lm_job *job);
/*
 * Leaves out the outer checksum again, once who gets the packet reads it as it is on the cable: a run of datagrams needed one,
 * which the socket makes since then, and leaves open.
 */
void lm_send_unsum_outer(const struct lm_engine *e, const struct lm_job *job, int fd);
/* Has the socket make outer checksums from now on; false where the kernel refuses. */
bool lm_send_sum_outer(const struct lm_job *job, int fd);
/* Waits until the socket has room; false: it has none, or too late. */
bool lm_send_wait(int fd, uint64_t deadline);

#endif
