#include "base/token_bucket.h"

bool lm_token_bucket_take(struct lm_token_bucket *bucket, uint64_t now, uint64_t per_second, uint64_t burst)
{
    uint64_t interval = UINT64_C(1000000000) / per_second;
    if (bucket->filled_at == 0) {
        bucket->tokens = burst;
        bucket->filled_at = now;
    }
    uint64_t fresh = now > bucket->filled_at ? (now - bucket->filled_at) / interval : 0;
    bucket->filled_at += fresh * interval;
    bucket->tokens = fresh >= burst - bucket->tokens ? burst : bucket->tokens + fresh;
    if (bucket->tokens == 0)
        return false;
    bucket->tokens--;
    return true;
}
