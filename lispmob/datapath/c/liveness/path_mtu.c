/*
 * Path MTUs: the largest outer packet from a local path to a remote, and when to probe for it.
 *
 * The control plane finds them by probes (control/path_mtu/search.py), for pairs of locators that large packets use.
 * This file reports those pairs, from time to time for each remote. ICMP errors (too_big.c) and uplinks that refuse a
 * size are faster, if they can be trusted.
 */
#include <net/if.h>
#include <sys/ioctl.h>

#include "engine/engine.h"

#define SECOND UINT64_C(1000000000)
#define LARGE_AGAIN_NS (2 * SECOND) /* between reports about one remote */
#define LARGE_LATER_NS (SECOND / 5) /* the same when the rate limit for all is reached */
#define LARGE_PER_SECOND 50
#define LARGE_BURST 50
#define REFUSED_STEP 40u /* octets; the kernel accepts less than the MTU of the interface, and does not say how much */

void lm_path_mtu_store(struct lm_engine *e, const struct lm_path *path, const struct lm_addr *address, uint16_t port,
                       uint32_t mtu, enum lm_mtu_source source)
{
    lm_locator_set_mtu(e->locators, address, port, path->place, mtu);
    lm_count(&e->counters, LM_mtu_learned);
    if (e->mirror)
        lm_mirror_changed(e->mirror);
    struct lm_punt report = {.kind = LM_PUNT_MTU,
                             .source = path->address,
                             .destination = *address,
                             .destination_port = port,
                             .mtu = mtu,
                             .mtu_source = (uint8_t)source};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

void lm_path_mtu_refused(struct lm_engine *e, const struct lm_job *job, int fd)
{
    struct ifreq request = {0};
    uint32_t now = lm_path_mtu(job->path, job->remote),
             mtu = now > LM_MTU_MIN + REFUSED_STEP ? now - REFUSED_STEP : now;
    memcpy(request.ifr_name, job->path->interface, IFNAMSIZ);
    if (!ioctl(fd, SIOCGIFMTU, &request) && request.ifr_mtu >= LM_MTU_MIN && (uint32_t)request.ifr_mtu < now)
        mtu = (uint32_t)request.ifr_mtu;
    if (mtu < now)
        lm_path_mtu_store(e, job->path, &job->remote->address, job->remote->port, mtu, LM_MTU_INTERFACE);
}

static void report(struct lm_engine *e, const struct lm_remote *remote)
{
    uint32_t paths = atomic_exchange(&remote->state->large_paths, 0);
    for (size_t i = 0; i < e->uplinks->path_count; i++) {
        struct lm_punt punt = {.kind = LM_PUNT_LARGE,
                               .source = remote->source.family ? remote->source : e->uplinks->paths[i].address,
                               .destination = remote->address,
                               .destination_port = remote->port};
        if (paths >> i & 1 && lm_punt_put(&e->punts, &punt, NULL, 0))
            lm_count(&e->counters, LM_out_large);
    }
}

/* Reports a large packet to the remote, at a limited rate. `at`: its `large_at`, which has passed. */
static void report_limited(struct lm_engine *e, const struct lm_remote *remote, uint64_t at, uint64_t now,
                           bool is_relayed)
{
    bool may_report = lm_token_bucket_take(&e->large_bucket[is_relayed], now, LARGE_PER_SECOND, LARGE_BURST);
    uint64_t again = now + (may_report ? LARGE_AGAIN_NS : LARGE_LATER_NS);
    if (atomic_compare_exchange_strong(&remote->state->large_at, &at, again) && may_report)
        report(e, remote);
}

void lm_path_mtu_report_seen(struct lm_engine *e, const struct lm_remote *remote, uint64_t now)
{
    uint64_t at = atomic_load_explicit(&remote->state->large_at, memory_order_relaxed);
    uint64_t seen = atomic_load_explicit(&remote->state->large_seen, memory_order_relaxed);
    if (seen && seen >= at && atomic_load_explicit(&e->shared->reports_large, memory_order_relaxed))
        report_limited(e, remote, at, now, false);
}

void lm_path_mtu_note_large(struct lm_engine *e, const struct lm_job *job, size_t inner)
{
    struct lm_remote_state *state = job->remote->state;
    if (!atomic_load_explicit(&e->shared->reports_large, memory_order_relaxed) ||
        inner + lm_send_overhead(job->remote) + lm_job_seal_octets(job) <
            lm_large_from(lm_path_mtu(job->path, job->remote)))
        return;
    uint32_t bit = UINT32_C(1) << job->path->place;
    if (!(atomic_load_explicit(&state->large_paths, memory_order_relaxed) & bit))
        (void)atomic_fetch_or_explicit(&state->large_paths, bit, memory_order_relaxed);
    uint64_t at = atomic_load_explicit(&state->large_at, memory_order_relaxed);
    if (job->now + LM_LARGE_ASK_NS >= at)
        report_limited(e, job->remote, at, job->now, job->is_relayed);
}

void lm_path_mtu_report_large(struct lm_engine *e, bool reports)
{
    pthread_mutex_lock(&e->writer);
    atomic_store(&e->shared->reports_large, reports);
    pthread_mutex_unlock(&e->writer);
}

void lm_path_mtu_set(struct lm_engine *e, const struct lm_addr *local, const struct lm_addr *address, uint16_t port,
                     uint32_t mtu)
{
    pthread_mutex_lock(&e->writer); /* keeps remotes and uplinks in place; path MTUs are atomic */
    bool is_sender = false;         /* an RTR may be known by addresses that no path of ours has */
    for (size_t i = 0; i < e->uplinks->path_count; i++)
        is_sender = is_sender || lm_addr_equal(&e->uplinks->paths[i].address, local);
    for (size_t i = 0; i < e->uplinks->path_count; i++)
        if (!is_sender || lm_addr_equal(&e->uplinks->paths[i].address, local))
            lm_locator_set_mtu(e->locators, address, port, i, mtu > LM_MTU_MAX ? 0 : mtu);
    if (e->mirror)
        lm_mirror_changed(e->mirror);
    pthread_mutex_unlock(&e->writer);
}
