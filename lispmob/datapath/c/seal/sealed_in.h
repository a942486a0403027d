/* Opens arriving sealed packets. */
#ifndef LM_SEALED_IN_H
#define LM_SEALED_IN_H

#include "seal/peers.h"

struct lm_engine;
struct lm_outer;

/*
 * Opens a datagram with KK set, in place, and stores its session in `outer`. True: `data` describes the inner packet,
 * LM_SEAL_HEAD octets after the start. False: the datagram was handled, and counted if it was refused.
 */
bool lm_sealed_in_open(struct lm_engine *e, uint8_t *datagram, size_t length, struct lm_outer *outer,
                       struct lm_data *data);
/*
 * Reports that clear text was refused. Its sender may have lost its keys, so the control plane begins a handshake when
 * it knows the locator. Rate-limited.
 */
void lm_sealed_in_clear(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* Finds the sealed datagram in an inner packet that came to us from a relay. Returns its octets; 0: there is none. */
size_t lm_sealed_in_nested(const struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                           const uint8_t **datagram);

/*
 * Takes a control message that a peer has sealed for us, from EID to EID: its new locators, or a confirmation of ours.
 * It is reported with the peer of the session, and is not delivered. False: the packet is something else.
 */
bool lm_sealed_in_take_word(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                            const struct lm_outer *outer);

#endif
