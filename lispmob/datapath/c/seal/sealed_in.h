/* Opens arriving sealed packets. */
#ifndef LM_SEALED_IN_H
#define LM_SEALED_IN_H

#include "seal/peers.h"

struct lm_engine;
struct lm_outer;

/*
 * Opens a datagram with KK set, in place, and stores its session in `outer`. True: `data` describes the inner packet,
 * LM_SEAL_HEAD octets after the start. False: it is done, and counted if it was refused.
 */
bool lm_sealed_in_open(struct lm_engine *e, uint8_t *datagram, size_t length, struct lm_outer *outer,
                       struct lm_data *data);
/* Clear text was refused. Its sender may have lost its keys, so once it is located it is sent a handshake. Rate-limited. */
void lm_sealed_in_clear(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* The sealed datagram inside an inner packet for us, from a relay; its octets, 0: there is none. */
size_t lm_sealed_in_nested(const struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                           const uint8_t **datagram);

/*
 * True for a control message that a peer has sealed for us, from EID to EID: its new locators, or a confirmation of
 * ours. It is reported, with the peer of the session, and goes nowhere else.
 */
bool lm_sealed_in_take_word(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                            const struct lm_outer *outer);

#endif
