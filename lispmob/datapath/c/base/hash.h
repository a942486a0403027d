/* A keyed hash: SipHash-1-3 over whole 64-bit words. */
#ifndef LM_HASH_H
#define LM_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The key of an engine, drawn at its start, so that a remote host cannot aim at one bucket, slot or source port. */
struct lm_key {
    uint64_t k0, k1;
};

uint64_t lm_hash(const struct lm_key *key, const uint64_t *words, size_t count);

#endif
