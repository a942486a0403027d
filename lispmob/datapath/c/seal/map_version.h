/*
 * Map-Versioning (RFC 9302) in sealed packets. A packet names the versions of the mappings that it was sent by, those
 * of the sender and of the receiver. So the first packet shows that its sender has an old mapping of ours, or has
 * moved.
 *
 * In a clear header any host could write the numbers, so there they are neither written nor used (RFC 9302, 9). In a
 * sealed packet the tag covers them. Still, they only cause a lookup, and never change a mapping.
 *
 * A packet that was sent by an old mapping has reached us, and is delivered. A packet with a number that our mapping
 * never had is dropped.
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

/* Compares two numbers that are not 0, by the shorter way around the circle (RFC 9302, 6). */
bool lm_map_version_is_newer(uint16_t one, uint16_t other);
/* Sets the version of our own mappings; 0: numbers are neither sent nor used. */
void lm_map_version_use(struct lm_engine *e, uint16_t version);
/* Adds the numbers to the header of a packet that is sealed, if both mappings have one. */
void lm_map_version_put(const struct lm_engine *e, const struct lm_job *job, uint8_t *header);
/* Checks the numbers of an opened packet and reports what follows; false: it was counted, and must not be delivered. */
bool lm_map_version_admits(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* We have another mapping of this peer now: its numbers are checked again. */
void lm_map_version_forget_peer(const struct lm_peers *peers, uint32_t number);

#endif
