/*
 * Reports EIDs that the mapping system may know better: destinations that only a default entry matches, and sources of
 * received data whose entry is negative.
 */
#include "engine/engine.h"

#define AGAIN_NS UINT64_C(10000000000)
#define HEARD_AGAIN_NS UINT64_C(1000000000)
#define TELLINGS_PER_SECOND 20
#define TELLING_BURST 20

/* Rate limit; false: the EID was reported lately, or the limit for all is reached. */
static bool may_report(struct lm_engine *e, struct lm_reported *reported, struct lm_token_bucket *bucket,
                       uint32_t instance_id, const struct lm_addr *eid, uint64_t now, uint64_t again)
{
    uint64_t words[3] = {lm_get64(eid->octets), lm_get64(eid->octets + 8), instance_id};
    uint64_t key = lm_hash(&e->key, words, 3) | 1;
    struct lm_reported *place = &reported[(key >> 1) % LM_REPORTED_MAX]; /* a collision costs more reports */
    if ((place->key == key && now < place->until) ||
        !lm_token_bucket_take(bucket, now, TELLINGS_PER_SECOND, TELLING_BURST))
        return false;
    *place = (struct lm_reported){key, now + again};
    return true;
}

void lm_destination_report_sent(struct lm_engine *e, const struct lm_job *job)
{
    const struct lm_addr *destination = &job->inner.destination;
    if (!may_report(e, e->reported, &e->reported_bucket, job->instance_id, destination, job->now, AGAIN_NS))
        return;
    struct lm_punt report = {.kind = LM_PUNT_MISS,
                             .instance_id = job->instance_id,
                             .source = job->inner.source,
                             .destination = *destination};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

void lm_destination_report_heard(struct lm_engine *e, const struct lm_data *data, uint64_t now)
{
    const struct lm_addr *source = &data->inner.source;
    if (e->refusing == 0)
        return;
    const struct lm_entry *sender = lm_table_lookup(e->table, data->instance_id, source);
    if (!sender || !lm_rules_refuses(sender->kind) ||
        !may_report(e, e->refuted, &e->refuted_bucket, data->instance_id, source, now, HEARD_AGAIN_NS))
        return;
    struct lm_punt report = {.kind = LM_PUNT_REFUTED,
                             .instance_id = data->instance_id,
                             .source = *source,
                             .destination = data->inner.destination};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}
