/* Opening on the way in. */
#ifndef LM_SEALED_IN_H
#define LM_SEALED_IN_H

#include "seal/peers.h"

struct lm_engine;
struct lm_outer;

/*
 * Opens a datagram with KK set, in place, and notes in `outer` who sealed it. True: `data` tells of the inner packet,
 * which is LM_SEAL_HEAD octets behind the start. False: it is dealt with, counted when it is of no use.
 */
bool lm_sealed_in_open(struct lm_engine *e, uint8_t *datagram, size_t length, struct lm_outer *outer,
                       struct lm_data *data);
/* Clear text was refused: its sender may have lost its keys, and is told of ours once it is known where it is. Not often. */
void lm_sealed_in_clear(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* The sealed datagram that an inner packet for us holds, by way of a relay; its octets, 0: it holds none. */
size_t lm_sealed_in_nested(const struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                           const uint8_t **datagram);

/*
 * True for a control message that a peer has sealed for us, from EID to EID: it says where it is now, or that it has heard
 * where we are. It is reported, with the peer that the session is of, and goes nowhere else.
 */
bool lm_sealed_in_take_word(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                            const struct lm_outer *outer);

#endif
