/*
 * Map-Versioning (RFC 9302) inside sealed packets: they say by which mappings they were sent, the sender's own and the
 * receiver's. So a peer that sends by an old one is noticed with its first packet, and so is one that has moved.
 *
 * In a clear header any host could write the numbers. There they are neither written nor used (RFC 9302, 9). The tag
 * covers them here; still they only trigger a lookup, and never change a mapping.
 *
 * A packet by an old mapping has found us, and is delivered. One that names a number that our mapping never had is lost.
 */
#ifndef LM_MAP_VERSION_H
#define LM_MAP_VERSION_H

#include <stdbool.h>
#include <stdint.h>

#define LM_MAP_VERSION_BITS 12u

struct lm_data;
struct lm_engine;
struct lm_job;
struct lm_outer;
struct lm_peers;

/* RFC 9302, 6: of two numbers that are not 0, by the shorter way around the circle. */
bool lm_map_version_is_newer(uint16_t one, uint16_t other);
/* Ours are of this version from now on; 0: none is said, and none heeded. */
void lm_map_version_use(struct lm_engine *e, uint16_t version);
/* Adds the numbers to the header of a packet that is sealed, where both mappings have one. */
void lm_map_version_put(const struct lm_engine *e, const struct lm_job *job, uint8_t *header);
/* What an opened packet says, of which reports follow; false: counted, it is not to be delivered. */
bool lm_map_version_admits(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* We know another mapping of this peer now: what was found to be in order is looked at again. */
void lm_map_version_forget_peer(const struct lm_peers *peers, uint32_t number);

#endif
