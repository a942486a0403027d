/* Updates the prefix lengths in use when prefixes are added and removed. */
#include "table/lengths.h"

#include <stdlib.h>

#define SIZE_MIN 8u /* a power of two */

static bool grow(struct lm_lengths_of *all, const struct lm_key *key)
{
    if (all->size && all->count < all->size / 2)
        return true;
    struct lm_lengths_of more = {.count = all->count, .size = all->size ? all->size * 2 : SIZE_MIN};
    if (!(more.at = calloc(more.size, sizeof *more.at)))
        return false;
    for (uint32_t i = 0; i < all->size; i++)
        if (all->at[i])
            *lm_lengths_place(&more, key, all->at[i]->instance_id, all->at[i]->family) = all->at[i];
    free(all->at);
    *all = more;
    return true;
}

struct lm_lengths *lm_lengths_make(struct lm_lengths_of *all, const struct lm_key *key, uint32_t iid, uint8_t family)
{
    if (!grow(all, key))
        return NULL;
    struct lm_lengths **place = lm_lengths_place(all, key, iid, family);
    if (!*place && (*place = calloc(1, sizeof **place))) {
        (*place)->instance_id = iid;
        (*place)->family = family;
        all->count++;
    }
    return *place;
}

void lm_lengths_change(struct lm_lengths *lengths, unsigned length, int by)
{
    lengths->count[length] += (uint32_t)by;
    uint64_t bit = UINT64_C(1) << length % 64;
    if (lengths->count[length])
        lengths->bitmap[length / 64] |= bit;
    else
        lengths->bitmap[length / 64] &= ~bit;
}

void lm_lengths_free(struct lm_lengths_of *all)
{
    for (uint32_t i = 0; i < all->size; i++)
        free(all->at[i]);
    free(all->at);
    *all = (struct lm_lengths_of){0};
}

size_t lm_lengths_memory(const struct lm_lengths_of *all)
{
    return all->size * sizeof *all->at + all->count * sizeof(struct lm_lengths);
}
