/* Unanswered packets to a locator: the rule (silence.h), and its use by the threads and by time. */
#include "liveness/silence.h"

#include "engine/engine.h"

#define NEVER_NS (UINT64_C(1) << 62)

static uint64_t get(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void put(_Atomic uint64_t *value, uint64_t now)
{
    atomic_store_explicit(value, now, memory_order_relaxed);
}

static bool is_flowing(const struct lm_silence *s, uint64_t since)
{
    return lm_rules_is_flowing(since, get(&s->heard), get(&s->quick));
}

static enum lm_silence_kind mark_reported(struct lm_silence *s, uint64_t since, bool flows)
{
    if (!atomic_compare_exchange_strong(&s->since, &since, LM_SILENCE_REPORTED))
        return LM_SILENCE_NONE; /* a packet arrived at this moment */
    atomic_store_explicit(&s->is_reported, true, memory_order_relaxed);
    return flows ? LM_SILENCE_FLOWING : LM_SILENCE_ONE_SIDED;
}

enum lm_silence_kind lm_silence_sent(struct lm_silence *s, uint64_t now, uint32_t octets)
{
    uint64_t since = get(&s->since);
    if (get(&s->quick) == 0 || since == LM_SILENCE_REPORTED)
        return LM_SILENCE_NONE;
    if (since == 0) {
        atomic_store_explicit(&s->octets, octets, memory_order_relaxed);
        put(&s->since, now);
        return LM_SILENCE_NONE;
    }
    uint32_t before = atomic_load_explicit(&s->octets, memory_order_relaxed);
    if (before < LM_SILENCE_OCTETS)
        atomic_store_explicit(&s->octets, before + octets, memory_order_relaxed);
    bool flows = is_flowing(s, since);
    return now < since + get(flows ? &s->quick : &s->slow) ? LM_SILENCE_NONE : mark_reported(s, since, flows);
}

uint64_t lm_silence_due(const struct lm_silence *s)
{
    uint64_t since = get(&s->since), quick = get(&s->quick);
    if (quick == 0 || since == 0 || since == LM_SILENCE_REPORTED || !is_flowing(s, since))
        return 0;
    return atomic_load_explicit(&s->octets, memory_order_relaxed) < LM_SILENCE_OCTETS ? 0 : since + quick;
}

enum lm_silence_kind lm_silence_tick(struct lm_silence *s, uint64_t now)
{
    uint64_t due = lm_silence_due(s), since = get(&s->since);
    return due && now >= due && since && since != LM_SILENCE_REPORTED ? mark_reported(s, since, true) : LM_SILENCE_NONE;
}

bool lm_silence_arrived(struct lm_silence *s, uint64_t now)
{
    put(&s->heard, now);
    put(&s->since, 0);
    return atomic_load_explicit(&s->is_reported, memory_order_relaxed) && atomic_exchange(&s->is_reported, false);
}

void lm_silence_watch(struct lm_silence *s, uint64_t quick, uint64_t slow)
{
    uint64_t reported = LM_SILENCE_REPORTED;
    put(&s->slow, slow > quick ? slow : quick);
    put(&s->quick, quick);
    (void)atomic_compare_exchange_strong(&s->since, &reported, 0);
}

static void report(struct lm_engine *e, const struct lm_remote *remote, enum lm_silence_kind kind, bool is_alone)
{
    struct lm_punt punt = {.kind = LM_PUNT_SILENT,
                           .destination = remote->address,
                           .is_flowing = kind == LM_SILENCE_FLOWING,
                           .is_alone = is_alone};
    if (kind != LM_SILENCE_NONE)
        (void)lm_punt_put(&e->punts, &punt, NULL, 0);
}

static void look_at(struct lm_engine *e, uint64_t due)
{
    uint64_t at = get(&e->shared->silence_at);
    if (due && (at == 0 || due < at))
        put(&e->shared->silence_at, due);
}

/* After a report about a group, its members report nothing, until the control plane watches them again. */
static void set_reported(struct lm_silence *s)
{
    uint64_t since = get(&s->since);
    if (since)
        (void)atomic_compare_exchange_strong(&s->since, &since, LM_SILENCE_REPORTED);
}

static struct lm_silence *group_of(const struct lm_remote *remote)
{
    return remote->head ? &remote->head->state->group : NULL;
}

/*
 * Returns when to check a locator next. The BPF program passes up any packet that starts a timer which no check is
 * scheduled for. While traffic is two-way that is every packet, so a check stays scheduled.
 */
static uint64_t next_look(const struct lm_engine *e, const struct lm_silence *s, uint64_t now)
{
    uint64_t due = lm_silence_due(s), quick = get(&s->quick);
    bool is_counted_elsewhere = e->mirror && quick && get(&s->since) != LM_SILENCE_REPORTED;
    return due == 0 && is_counted_elsewhere && now <= get(&s->heard) + quick ? now + quick : due;
}

void lm_silence_on_sent(struct lm_engine *e, const struct lm_job *job, size_t octets)
{
    struct lm_silence *own = &job->remote->state->silence, *group = group_of(job->remote);
    if (get(&own->quick) == 0)
        return;
    enum lm_silence_kind kind = lm_silence_sent(own, job->now, (uint32_t)octets), all = LM_SILENCE_NONE;
    if (group)
        all = lm_silence_sent(group, job->now, (uint32_t)octets);
    if (all == LM_SILENCE_FLOWING)
        set_reported(own);
    report(e, job->remote, all == LM_SILENCE_FLOWING ? all : kind, group && all != LM_SILENCE_FLOWING);
    look_at(e, next_look(e, own, job->now));
    if (group)
        look_at(e, next_look(e, group, job->now));
}

void lm_silence_on_heard(struct lm_engine *e, const struct lm_outer *outer)
{
    if (!lm_locators_watched(e->locators))
        return;
    struct lm_remote *remote = lm_locator_find_remote(e->locators, &outer->source, LM_PORT_DATA);
    struct lm_silence *group = remote ? group_of(remote) : NULL;
    bool was_reported = remote && lm_silence_arrived(&remote->state->silence, outer->now);
    if (group)
        was_reported = lm_silence_arrived(group, outer->now) || was_reported;
    if (!was_reported)
        return;
    struct lm_punt report = {.kind = LM_PUNT_HEARD, .source = outer->source, .destination = outer->destination};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

int lm_silence_timeout(struct lm_engine *e)
{
    lm_share(&e->lock);
    uint64_t at = get(&e->shared->silence_at), now = at ? lm_clock_now() : 0;
    lm_unshare(&e->lock);
    if (at == 0)
        return -1;
    return at <= now ? 0 : (int)((at - now) / 1000000u) + 1;
}

void lm_silence_check(struct lm_engine *e)
{
    lm_share(&e->lock);
    uint64_t at = get(&e->shared->silence_at), now = at ? lm_clock_now() : 0;
    bool is_due = at != 0 && now >= at;
    if (is_due)
        put(&e->shared->silence_at, 0);
    for (struct lm_remote *r = is_due ? lm_locators_watched(e->locators) : NULL; r; r = r->next_watched) {
        struct lm_silence *own = &r->state->silence, *group = group_of(r);
        bool is_waiting = get(&own->since) != 0;
        enum lm_silence_kind kind = lm_silence_tick(own, now), all = LM_SILENCE_NONE;
        if (group && is_waiting && (all = lm_silence_tick(group, now)) != LM_SILENCE_NONE)
            set_reported(own);
        report(e, r, all != LM_SILENCE_NONE ? all : kind, group && all == LM_SILENCE_NONE);
        lm_path_mtu_report_seen(e, r, now);
        look_at(e, next_look(e, own, now));
        if (group)
            look_at(e, next_look(e, group, now));
    }
    lm_unshare(&e->lock);
}

/* A group uses the shortest timeout of its members. It never reports a one-way silence. */
static void watch_group(struct lm_engine *e, struct lm_remote *head)
{
    uint64_t least = 0;
    for (struct lm_remote *r = lm_locators_watched(e->locators); head && r; r = r->next_watched) {
        uint64_t quick = r->head == head ? get(&r->state->silence.quick) : 0;
        if (quick && (least == 0 || quick < least))
            least = quick;
    }
    if (head)
        lm_silence_watch(&head->state->group, least, NEVER_NS);
}

void lm_silence_set_patience(struct lm_engine *e, const struct lm_addr *address, uint64_t quick, uint64_t slow,
                             const struct lm_addr *head)
{
    pthread_mutex_lock(&e->writer);
    struct lm_remote *remote = lm_locator_find_remote(e->locators, address, LM_PORT_DATA);
    if (remote) {
        struct lm_remote *leader =
            quick && head->family ? lm_locator_find_remote(e->locators, head, LM_PORT_DATA) : NULL;
        lm_take(&e->lock); /* for the list of watched remotes, and the groups */
        lm_locator_watch_remote(e->locators, remote, quick != 0);
        lm_silence_watch(&remote->state->silence, quick, slow);
        lm_locator_join_remotes(remote, leader);
        watch_group(e, leader);
        lm_give_back(&e->lock);
    }
    pthread_mutex_unlock(&e->writer);
}
