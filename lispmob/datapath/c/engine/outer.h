/* The outer header of one packet or of a run: destination, TTL and TOS. send.c and batch.c share it. */
#ifndef LM_OUTER_H
#define LM_OUTER_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "engine/engine.h"

#define LM_BUSY_WAIT_NS 10000000u /* wait for room in send buffers, per batch: table updates wait meanwhile */

struct lm_outer_head {
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
 * Fills in destination and control messages of `m` for the job. `run`: octets of each datagram that the kernel cuts it
 * into (UDP_SEGMENT); 0: it is one datagram.
 */
void lm_send_fill_outer(struct msghdr *m, struct lm_outer_head *head, const struct lm_job *job, bool copy_dscp,
                        size_t run);
/* Writes the LISP header of the job: Instance-ID, Locator-Status-Bits, echo-nonce. */
void lm_send_put_lisp_header(const struct lm_engine *e, const struct lm_job *job, uint8_t *header);
/* Adds our Locator-Status-Bits, if they are sent. */
void lm_send_put_status(const struct lm_engine *e, uint8_t *header);
/* Returns the socket whose port a NAT on either side requires, otherwise one of the pool. */
int lm_send_socket(const struct lm_job *job);
/*
 * Turns the outer checksum of the socket off again, if the receiver gets packets as they are on the wire. A run had
 * turned it on. The socket would send it as a partial checksum.
 */
void lm_send_unsum_outer(const struct lm_engine *e, const struct lm_job *job, int fd);
/* Makes the socket compute outer checksums; false if the kernel refuses. */
bool lm_send_sum_outer(const struct lm_job *job, int fd);
/* Waits until the socket has room; false: it has none, or too late. */
bool lm_send_wait(int fd, uint64_t deadline);

#endif
