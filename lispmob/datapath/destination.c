/* Destinations that only a default entry knows: the control plane hears of each now and then, and may know better. */
#include "engine.h"

#define AGAIN_NS UINT64_C(10000000000)
#define TELLINGS_PER_SECOND 20
#define TELLING_BURST 20

void lm_destination_tell(struct lm_engine *e, const struct lm_job *job)
{
    const struct lm_addr *destination = &job->inner.destination;
    uint64_t words[3] = {lm_get64(destination->octets), lm_get64(destination->octets + 8), job->instance_id};
    uint64_t key = lm_hash(&e->key, words, 3) | 1;
    struct lm_told *place = &e->told[(key >> 1) % LM_TOLD_MAX]; /* two that meet here are told of more often, no more */
    if ((place->key == key && job->now < place->until) ||
        !lm_bucket_take(&e->told_bucket, job->now, TELLINGS_PER_SECOND, TELLING_BURST))
        return;
    *place = (struct lm_told){key, job->now + AGAIN_NS};
    struct lm_punt report = {.kind = LM_PUNT_MISS,
                             .instance_id = job->instance_id,
                             .source = job->inner.source,
                             .destination = *destination};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}
