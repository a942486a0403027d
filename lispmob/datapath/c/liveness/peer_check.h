/*
 * What leaves us is whole for anybody, unless the other side is known to cope with less.
 *
 * A device in hardware fills in the checksums that are left open, and cuts a run of datagrams up, before anything is on the
 * cable. A virtual cable (veth, virtio) hands both over as they are, which a kernel mends in passing; a tunnel in user space
 * reads one long packet with a wrong checksum. So a path tells whether its device is of hardware (cable.c), and a locator is
 * asked. Who answers is of our kind: its kernel reads what it gets with us. Nobody is asked over hardware.
 *
 * Question and answer are control messages in the data plane (Instance-ID 0xFFFFFF), so that they take the way that data
 * takes, through the same NATs. They are of the type that RFC 9304 sets aside for all that has no type of its own, which
 * everybody else drops:
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * |Type=15|       Sub-type        |A|D|         Reserved          |
 * |                         Nonce . . .                           |
 * |                         . . . Nonce                           |
 * |             Port              |           Reserved            |
 *
 * An answer (A) repeats nonce and port. It goes to the port that the question came from, or to the data port (D): without a
 * NAT questions leave from where data does, and so without an outer checksum, which would be left open like any. The nonce is a keyed hash of address, port and time: nothing has to be remembered, and
 * only who gets packets at that address can know it.
 */
#ifndef LM_PEER_CHECK_H
#define LM_PEER_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/hash.h"

#define LM_PEER_CHECK_OCTETS 16u
#define LM_PEER_CHECK_TYPE 0xff01u /* the type, and a sub-type of those that nobody has registered */

struct lm_engine;
struct lm_job;
struct lm_outer;

/* Something was sent there: time to ask? */
void lm_peer_check_on_sent(struct lm_engine *e, const struct lm_job *job);
/* A control message came in the data plane; true when it was one of these, and is dealt with. */
bool lm_peer_check_take(struct lm_engine *e, const uint8_t *message, size_t length, const struct lm_outer *outer);

/* The number that proves that who repeats it is at this address and port; it is another one every 16 seconds. */
uint64_t lm_peer_check_nonce(const struct lm_key *key, const struct lm_addr *address, uint16_t port, uint64_t now);

#endif
