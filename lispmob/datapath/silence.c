/*
 * Packets to a locator that nothing comes back from: worth a question to the locator, which the control plane asks.
 *
 * Watched are the locators that the control plane has named, each with the time that an answer usually takes. Silence is
 * told of once, and only of a mapping that was heard shortly before: many conversations are one-sided by nature.
 */
#include "engine.h"

#define HEARD_LATELY_NS 5000000000u
#define TOLD UINT64_MAX

/* When anything came from the locators of the mapping: an answer may take another way than the question. */
static uint64_t last_heard(const struct lm_locator_set *set)
{
    uint64_t last = 0;
    for (size_t i = 0; i < set->count; i++) {
        uint64_t heard = atomic_load_explicit(&set->remotes[i]->state->heard, memory_order_relaxed);
        last = heard > last ? heard : last;
    }
    return last;
}

void lm_silence_on_sent(struct lm_engine *e, const struct lm_job *job)
{
    struct lm_remote *remote = job->remote;
    uint64_t now = job->now;
    uint64_t patience = atomic_load_explicit(&remote->state->patience, memory_order_relaxed);
    if (patience == 0)
        return;
    uint64_t since = atomic_load_explicit(&remote->state->waiting_since, memory_order_relaxed);
    if (since == 0)
        atomic_store_explicit(&remote->state->waiting_since, now, memory_order_relaxed);
    if (since == 0 || since == TOLD || now < since + patience)
        return;
    uint64_t heard = last_heard(job->set);
    atomic_store_explicit(&remote->state->waiting_since, heard >= since ? now : TOLD, memory_order_relaxed);
    if (heard >= since || heard == 0 || since > heard + HEARD_LATELY_NS)
        return;
    struct lm_punt report = {.kind = LM_PUNT_SILENT, .destination = remote->address};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

void lm_silence_on_heard(struct lm_engine *e, const struct lm_addr *source, uint64_t now)
{
    if (atomic_load_explicit(&e->shared->watched, memory_order_relaxed) == 0)
        return;
    struct lm_remote *remote = lm_remote_find(e->locators, source, LM_PORT_DATA);
    if (!remote)
        return;
    atomic_store_explicit(&remote->state->heard, now, memory_order_relaxed);
    atomic_store_explicit(&remote->state->waiting_since, 0, memory_order_relaxed);
}

void lm_engine_set_patience(struct lm_engine *e, const struct lm_addr *address, uint64_t patience)
{
    pthread_mutex_lock(&e->writer); /* keeps the remotes where they are; what changes in them is atomic */
    struct lm_remote *remote = lm_remote_find(e->locators, address, LM_PORT_DATA);
    if (remote) {
        atomic_store(&remote->state->patience, patience);
        atomic_store(&remote->state->waiting_since, 0);
    }
    if (patience)
        atomic_store(&e->shared->watched, 1);
    pthread_mutex_unlock(&e->writer);
}
