/*
 * Our packets are complete unless the receiver is known to cope with open checksums and joined runs.
 *
 * Hardware fills in open checksums, and cuts a run of datagrams up, before anything is on the cable. A virtual link
 * (veth, virtio) passes both on as they are. A kernel repairs them; a tunnel in user space reads one long packet with a
 * wrong checksum. So a path records whether its device is hardware (cable.c); over other devices the locator is asked.
 * A receiver that answers is lispmob, and reads such packets through its kernel.
 *
 * Request and answer are control messages in the data plane (Instance-ID 0xFFFFFF), so that they take the path of data,
 * through the same NATs. They are of the shared extension type of RFC 9304, which other implementations drop:
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * |Type=15|       Sub-type        |A|D|         Reserved          |
 * |                         Nonce . . .                           |
 * |                         . . . Nonce                           |
 * |             Port              |           Reserved            |
 *
 * An answer (A) repeats nonce and port. It goes to the source port of the request, or to the data port (D): without a
 * NAT, requests use the port of data, and so have no outer checksum, which would be left open like any other. The nonce
 * is a keyed hash of address, port and time: it needs no state, and only a receiver at that address knows it.
 */
#ifndef LM_PEER_CHECK_H
#define LM_PEER_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/hash.h"

#define LM_PEER_CHECK_OCTETS 16u
#define LM_PEER_CHECK_TYPE 0xff01u /* the type, and an unregistered sub-type */

struct lm_engine;
struct lm_job;
struct lm_outer;

/* A packet was sent there: ask if it is time. */
void lm_peer_check_on_sent(struct lm_engine *e, const struct lm_job *job);
/* A control message came in the data plane; true when it was one of these, and is done. */
bool lm_peer_check_take(struct lm_engine *e, const uint8_t *message, size_t length, const struct lm_outer *outer);

/* The number proves that a sender that repeats it receives at this address and port; it changes every 16 seconds. */
uint64_t lm_peer_check_nonce(const struct lm_key *key, const struct lm_addr *address, uint16_t port, uint64_t now);

#endif
