/* The prefix lengths in use, per Instance-ID and family: a lookup tries them from long to short. */
#ifndef LM_LENGTHS_H
#define LM_LENGTHS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/hash.h"

#define LM_LENGTH_MAX 128u /* bits */

/* The lengths in use for one Instance-ID and family. */
struct lm_lengths {
    uint32_t instance_id;
    uint8_t family;
    uint64_t bitmap[3];
    uint32_t count[LM_LENGTH_MAX + 1]; /* prefixes of each length */
};

/* The lengths of all Instance-IDs and families: a hash table with open addressing. */
struct lm_lengths_of {
    struct lm_lengths **at;
    uint32_t count, size; /* size: a power of two; 0: no array */
};

/* Returns the slot of an Instance-ID and family, which may be empty. NULL: there is no array yet. */
static inline struct lm_lengths **lm_lengths_place(const struct lm_lengths_of *all, const struct lm_key *key,
                                                   uint32_t iid, uint8_t family)
{
    if (all->size == 0)
        return NULL;
    uint64_t word = (uint64_t)iid << 8 | family;
    uint32_t mask = all->size - 1, i = (uint32_t)lm_hash(key, &word, 1) & mask;
    while (all->at[i] && (all->at[i]->instance_id != iid || all->at[i]->family != family))
        i = (i + 1) & mask;
    return &all->at[i];
}

/* Returns the lengths of an Instance-ID and family; NULL: it never had a prefix. */
static inline struct lm_lengths *lm_lengths_find(const struct lm_lengths_of *all, const struct lm_key *key,
                                                 uint32_t iid, uint8_t family)
{
    struct lm_lengths **place = lm_lengths_place(all, key, iid, family);
    return place ? *place : NULL;
}

/* Sets *length to the next shorter length in use; false: there is none. */
static inline bool lm_lengths_next(const struct lm_lengths *lengths, unsigned *length)
{
    for (int word = (int)(*length + 63) / 64 - 1; word >= 0; word--) {
        unsigned below = *length - (unsigned)word * 64; /* 1 or more */
        uint64_t bits = lengths->bitmap[word] & (below >= 64 ? UINT64_MAX : (UINT64_C(1) << below) - 1);
        if (bits) {
            *length = (unsigned)word * 64 + 63u - (unsigned)__builtin_clzll(bits);
            return true;
        }
    }
    return false;
}

/* Returns the lengths of an Instance-ID and family, and creates them if necessary. NULL: out of memory. */
struct lm_lengths *lm_lengths_make(struct lm_lengths_of *all, const struct lm_key *key, uint32_t iid, uint8_t family);
/* Adds (1) or removes (-1) one prefix of this length, in bits. */
void lm_lengths_change(struct lm_lengths *lengths, unsigned length, int by);
void lm_lengths_free(struct lm_lengths_of *all);
/* Returns the octets allocated. */
size_t lm_lengths_memory(const struct lm_lengths_of *all);

#endif
