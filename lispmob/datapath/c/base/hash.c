#include "base/hash.h"

#include "base/siphash.h"

uint64_t lm_hash(const struct lm_key *key, const uint64_t *words, size_t count)
{
    return lm_siphash(key->k0, key->k1, words, count);
}
