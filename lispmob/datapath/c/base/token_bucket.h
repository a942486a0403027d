/* Rate limits. */
#ifndef LM_TOKEN_BUCKET_H
#define LM_TOKEN_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/* A token bucket; times are nanoseconds of a monotonic clock. */
struct lm_token_bucket {
    uint64_t tokens, filled_at;
};

bool lm_token_bucket_take(struct lm_token_bucket *bucket, uint64_t now, uint64_t per_second, uint64_t burst);

#endif
