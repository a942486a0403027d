/*
 * Asks a peer whether it accepts partial checksums and runs. Until it has answered, our packets to it are complete.
 *
 * Hardware computes partial checksums and cuts runs of datagrams before it sends them. A virtual link (veth, virtio)
 * passes both on as they are. A kernel repairs them, but a tunnel in user space reads one long packet with a wrong
 * checksum. So a path records whether its device is hardware (cable.c). Over other devices the locator is asked. A
 * receiver that answers is lispmob, which reads such packets through its kernel.
 *
 * Request and answer are control messages in the data plane (Instance-ID 0xFFFFFF), so that they take the path of data,
 * through the same NATs. They have the shared extension type of RFC 9304, which other implementations drop:
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * |Type=15|       Sub-type        |A|D|         Reserved          |
 * |                         Nonce . . .                           |
 * |                         . . . Nonce                           |
 * |             Port              |           Reserved            |
 *
 * An answer (A) repeats nonce and port. It goes to the source port of the request, or to the data port (D): without a
 * NAT, requests use the port of data, and have no outer checksum, which would be partial, too. The nonce is a keyed
 * hash of address, port and time: it needs no state, and only a receiver at that address knows it.
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

/* Asks the remote of a sent packet, when it is time to. */
void lm_peer_check_on_sent(struct lm_engine *e, const struct lm_job *job);
/* Handles a control message in the data plane; true: it was a request or answer of this kind. */
bool lm_peer_check_take(struct lm_engine *e, const uint8_t *message, size_t length, const struct lm_outer *outer);

/*
 * Returns the nonce for an address and port at this time. A sender that repeats it receives there. It changes every 16
 * seconds.
 */
uint64_t lm_peer_check_nonce(const struct lm_key *key, const struct lm_addr *address, uint16_t port, uint64_t now);

#endif
