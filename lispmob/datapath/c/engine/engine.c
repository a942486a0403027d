/* The control side: updates while packets move, and queries. */
#include <errno.h>
#include <sys/epoll.h>

#include "engine/engine.h"

#define PORTION 128u /* entries that are installed at a time: packets wait a fraction of a millisecond */

void lm_engine_lock(struct lm_engine *e)
{
    pthread_mutex_lock(&e->writer);
    lm_take(&e->lock);
}

void lm_engine_unlock(struct lm_engine *e)
{
    lm_give_back(&e->lock);
    pthread_mutex_unlock(&e->writer);
}

int lm_engine_replace(struct lm_engine *e, struct lm_table **table, enum lm_space space, struct lm_table *fresh)
{
    if (!fresh)
        return -ENOMEM;
    lm_engine_lock(e);
    struct lm_table *old = *table;
    *table = fresh;
    if (e->mirror) {
        lm_mirror_replace(e->mirror, space, old, fresh);
        lm_mirror_changed(e->mirror);
    }
    lm_engine_unlock(e);
    lm_table_free(old);
    return 0;
}

/* Adds the sockets of the uplinks to the poll set of the inbound thread, which only their errors wake. */
static void watch_errors(struct lm_engine *e, const struct lm_uplinks *fresh)
{
    for (size_t i = 0; i < fresh->path_count; i++)
        for (size_t s = 0; s <= fresh->paths[i].pool; s++) {
            int fd = fresh->paths[i].sockets[s];
            struct epoll_event event = {.events = 0, .data.fd = fd};
            if (!lm_uplinks_has_socket(e->uplinks, fd))
                (void)epoll_ctl(e->poll_in, EPOLL_CTL_ADD, fd, &event);
        }
    for (size_t i = 0; i < fresh->path_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fresh->paths[i].data_fd};
        if (fresh->paths[i].data_port == LM_PORT_EPHEMERAL && !lm_uplinks_receives(e->uplinks, event.data.fd))
            (void)epoll_ctl(e->poll_in, EPOLL_CTL_ADD, event.data.fd, &event);
    }
}

int lm_engine_set_uplinks(struct lm_engine *e, struct lm_uplink_spec *specs, size_t count)
{
    struct lm_uplink_options options = {.pool = e->config.source_port_pool,
                                        .udp_checksum = e->config.udp_checksum,
                                        .mark = e->config.mark,
                                        .fixed = e->receive};
    /* Opens the sockets while packets move. Only the exchange of the sets stops the packets. */
    pthread_mutex_lock(&e->writer);
    struct lm_uplinks *old = e->uplinks, *fresh = lm_uplinks_make(old, specs, count, &options);
    if (!fresh) {
        pthread_mutex_unlock(&e->writer);
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++)
        if (specs[i].error)
            lm_count(&e->counters, LM_uplink_refused);
    watch_errors(e, fresh);
    lm_too_big_listen(e, fresh);
    lm_take(&e->lock);
    lm_uplinks_take_relays(fresh, specs, count, e->locators);
    e->uplinks = fresh;
    if (!lm_uplinks_same_paths(old, fresh))
        lm_locator_forget_remotes(e->locators);
    for (size_t i = 0; i < LM_PATHS_MAX; i++)
        atomic_store_explicit(&e->shared->unanswered[i], 0, memory_order_relaxed);
    for (size_t i = 0; i < old->path_count; i++)
        lm_locator_set_drop(e->locators, old->paths[i].relays);
    if (e->is_move)
        lm_traffic_gap_watch(e);
    e->is_move = false;
    if (fresh->families) {
        lm_pending_release(e->stalled, NULL);
        lm_outbound_retry(e, e->stalled);
    }
    lm_give_back(&e->lock);
    lm_reflect_uplinks(e, old->rlocs, old->rloc_count);
    lm_uplinks_retire(old, fresh);
    pthread_mutex_unlock(&e->writer);
    return 0;
}

void lm_engine_repeat_last(struct lm_engine *e)
{
    lm_engine_lock(e);
    lm_last_packet_repeat(e, NULL);
    lm_engine_unlock(e);
}

void lm_engine_mark_move(struct lm_engine *e)
{
    pthread_mutex_lock(&e->writer);
    e->is_move = true;
    pthread_mutex_unlock(&e->writer);
}

int lm_engine_set_eids(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count)
{
    struct lm_table *eids = lm_table_new(&e->key), *instances = lm_table_new(&e->key);
    bool is_whole = eids && instances;
    struct lm_addr source[2] = {{0}, {0}};
    for (size_t i = 0; is_whole && i < count; i++) {
        /* By source alone: the lookup determines the Instance-ID. */
        struct lm_prefix anywhere = prefixes[i], inside = prefixes[i];
        anywhere.instance_id = 0;
        struct lm_entry *own = lm_table_insert(eids, &anywhere);
        struct lm_entry *instance = lm_table_insert(instances, &inside);
        is_whole = own && instance;
        if (!is_whole)
            break;
        own->value = (void *)(uintptr_t)prefixes[i].instance_id;
        struct lm_addr *first = &source[prefixes[i].address.family == 6];
        if (first->family == 0)
            *first = prefixes[i].address;
    }
    if (!is_whole) {
        lm_table_free(eids);
        lm_table_free(instances);
        return -ENOMEM;
    }
    lm_engine_lock(e);
    struct lm_table *old_eids = e->eids, *old_instances = e->instances;
    e->eids = eids;
    e->instances = instances;
    memcpy(e->icmp_source, source, sizeof source);
    if (e->mirror) {
        lm_mirror_replace(e->mirror, LM_SPACE_EIDS, old_eids, eids);
        lm_mirror_changed(e->mirror);
    }
    lm_engine_unlock(e);
    lm_table_free(old_eids);
    lm_table_free(old_instances);
    return 0;
}

int lm_engine_set_guard(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count)
{
    return lm_engine_replace(e, &e->guard, LM_SPACE_GUARD, lm_table_of(&e->key, prefixes, count));
}

static int install(struct lm_engine *e, const struct lm_prefix *prefix, int disposition,
                   const struct lm_locator_spec *locators, size_t count, struct lm_seal_wish wish)
{
    struct lm_locator_set *set = lm_locator_set_take_sealed(e->locators, locators, count, wish);
    if (!set)
        return -ENOMEM;
    struct lm_entry *entry = lm_table_insert(e->table, prefix);
    if (!entry) {
        lm_locator_set_drop(e->locators, set);
        return -ENOMEM;
    }
    struct lm_locator_set *before = entry->value;
    e->refusing -= lm_rules_refuses(entry->kind); /* a new one does not */
    entry->kind = (uint8_t)disposition;
    e->refusing += lm_rules_refuses(entry->kind);
    entry->value = set;
    if (e->mirror) {
        lm_mirror_entry(e->mirror, e->table, entry);
        lm_mirror_changed(e->mirror);
    }
    lm_source_release(e, entry);
    if (before && (before->wish.peer != wish.peer || before->wish.must_seal != wish.must_seal))
        lm_sealed_out_release(e, before->wish.peer);
    if (before && before->wish.map_version != wish.map_version)
        lm_map_version_forget_peer(e->peers, wish.peer);
    lm_locator_set_drop(e->locators, before); /* only now, so that a remote that both sets name keeps its path MTU */
    return 0;
}

/*
 * Sends the packets that waited for the mapping or took another path before, and forgets that the mapping was asked
 * for.
 */
static void answered(struct lm_engine *e, const struct lm_prefix *prefix)
{
    bool has_waited = lm_pending_count(e->pending) > 0;
    lm_pending_release(e->pending, prefix);
    if (has_waited)
        lm_outbound_retry(e, e->pending);
    lm_last_packet_repeat(e, prefix);
}

int lm_engine_install(struct lm_engine *e, const struct lm_prefix *prefix, int disposition,
                      const struct lm_locator_spec *locators, size_t count)
{
    return lm_engine_install_sealed(e, prefix, disposition, locators, count, (struct lm_seal_wish){0});
}

int lm_engine_install_sealed(struct lm_engine *e, const struct lm_prefix *prefix, int disposition,
                             const struct lm_locator_spec *locators, size_t count, struct lm_seal_wish wish)
{
    lm_engine_lock(e);
    int error = install(e, prefix, disposition, locators, count, wish);
    if (!error && disposition != LM_MISS)
        answered(e, prefix);
    lm_engine_unlock(e);
    return error;
}

int lm_engine_install_many(struct lm_engine *e, const struct lm_install *items, size_t count,
                           const struct lm_locator_spec *locators)
{
    int error = 0;
    for (size_t done = 0; done < count && !error;) {
        lm_engine_lock(e);
        for (size_t end = done + PORTION < count ? done + PORTION : count; done < end && !error; done++) {
            const struct lm_install *item = &items[done];
            struct lm_seal_wish wish = {item->peer, item->must_seal, item->map_version};
            error = install(e, &item->prefix, item->disposition, locators + item->first, item->count, wish);
            if (!error && item->disposition != LM_MISS)
                answered(e, &item->prefix);
        }
        lm_engine_unlock(e);
    }
    for (bool is_growing = true; is_growing;) {
        lm_engine_lock(e);
        is_growing = lm_table_settle(e->table);
        lm_engine_unlock(e);
    }
    return error;
}

int lm_engine_remove(struct lm_engine *e, const struct lm_prefix *prefix)
{
    lm_engine_lock(e);
    struct lm_entry *entry = lm_table_find(e->table, prefix);
    struct lm_locator_set *set = entry ? entry->value : NULL;
    e->refusing -= entry && lm_rules_refuses(entry->kind);
    bool was_there = lm_table_remove(e->table, prefix);
    if (e->mirror && was_there) {
        lm_mirror_entry_gone(e->mirror, prefix);
        lm_mirror_changed(e->mirror);
    }
    lm_locator_set_drop(e->locators, set);
    lm_engine_unlock(e);
    return was_there;
}

int lm_engine_drop_pending(struct lm_engine *e, const struct lm_prefix *prefix)
{
    int dropped = 0;
    lm_engine_lock(e);
    lm_pending_release(e->pending, prefix);
    uint8_t *packet = e->scratch + LM_FRAME_HEADROOM;
    uint64_t born, now = lm_clock_now();
    struct lm_job job = {.packet = packet, .now = now};
    for (size_t size; (size = lm_pending_take(e->pending, &job.vnet, packet, &job.lane, &born, now)) > 0; dropped++) {
        lm_count(&e->counters, LM_out_pending_failed);
        if (lm_packet_parse(packet, size, &job.inner) && lm_segments_read(&job.vnet, packet, &job.inner, &job.segments))
            lm_send_icmp_about(e, LM_ICMP_UNREACHABLE, 0, &job);
    }
    lm_engine_unlock(e);
    return dropped;
}

int lm_engine_wake_fd(const struct lm_engine *e)
{
    return e->punts.wake;
}

bool lm_engine_has_reports(struct lm_engine *e)
{
    return lm_punt_has(&e->punts);
}

size_t lm_engine_drain(struct lm_engine *e, struct lm_punt *into, size_t most)
{
    return lm_punt_drain(&e->punts, into, most);
}

void lm_engine_counters(struct lm_engine *e, uint64_t *into)
{
    for (size_t i = 0; i < LM_COUNTER_COUNT; i++)
        into[i] = atomic_load_explicit(&e->counters.value[i], memory_order_relaxed);
    pthread_mutex_lock(&e->writer);
    struct lm_shared_counts sum = {0};
    if (e->mirror)
        lm_mirror_counts(e->mirror, &sum);
    pthread_mutex_unlock(&e->writer);
    into[LM_out_packets] += sum.out_packets;
    into[LM_out_octets] += sum.out_octets;
    into[LM_data_packets] += sum.data_packets;
    into[LM_data_octets] += sum.data_octets;
    into[LM_kernel_out_packets] += sum.out_packets;
    into[LM_kernel_data_packets] += sum.data_packets;
    into[LM_out_busy] += sum.lost;
}

static bool take_used(struct lm_engine *e, struct lm_entry *entry)
{
    bool is_used = atomic_exchange_explicit(&entry->used, 0, memory_order_relaxed) != 0;
    return (e->mirror && lm_mirror_take_used(e->mirror, e->table, entry)) || is_used;
}

size_t lm_engine_used(struct lm_engine *e, uint32_t *cursor, struct lm_prefix *into, size_t most)
{
    size_t count = 0;
    lm_share(&e->lock);
    for (struct lm_entry *entry; count < most && (entry = lm_table_next(e->table, cursor));)
        if (take_used(e, entry))
            into[count++] = (struct lm_prefix){entry->instance_id, entry->length, entry->address};
    if (e->mirror && count < most)
        lm_mirror_changed(e->mirror); /* the programs mark a mapping as used when they decide, not with every packet */
    lm_unshare(&e->lock);
    return count;
}

size_t lm_engine_heard(struct lm_engine *e, struct lm_heard *into)
{
    size_t count = 0;
    pthread_mutex_lock(&e->heard_lock);
    for (size_t i = 0; i < LM_HEARD_MAX; i++)
        if (e->heard[i].source.family)
            into[count++] = e->heard[i];
    memset(e->heard, 0, sizeof e->heard);
    e->heard_last = (struct lm_heard){0};
    pthread_mutex_unlock(&e->heard_lock);
    struct lm_heard others[LM_HEARD_MAX];
    pthread_mutex_lock(&e->writer);
    size_t more = e->mirror ? lm_mirror_take_heard(e->mirror, others, LM_HEARD_MAX) : 0;
    if (more)
        lm_mirror_changed(e->mirror);
    pthread_mutex_unlock(&e->writer);
    for (size_t i = 0, known = count; i < more && count < LM_HEARD_MAX; i++) {
        bool is_known = false;
        for (size_t k = 0; k < known && !is_known; k++)
            is_known =
                lm_addr_equal(&into[k].source, &others[i].source) && lm_addr_equal(&into[k].local, &others[i].local);
        if (!is_known)
            into[count++] = others[i];
    }
    return count;
}

static uint64_t read_count(_Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

size_t lm_engine_traffic(struct lm_engine *e, struct lm_traffic_with *into, size_t most)
{
    size_t count = 0, bucket = 0;
    pthread_mutex_lock(&e->writer); /* keeps the remotes in place; the counters are atomic */
    for (struct lm_remote *r = NULL; count < most && (r = lm_locator_next_remote(e->locators, &bucket, r));) {
        struct lm_remote_state *s = r->state;
        struct lm_traffic_with with = {.address = r->address,
                                       .port = r->port,
                                       .sent = read_count(&s->sent),
                                       .sent_octets = read_count(&s->sent_octets),
                                       .received = read_count(&s->received),
                                       .received_octets = read_count(&s->received_octets)};
        if (with.sent || with.received)
            into[count++] = with;
    }
    pthread_mutex_unlock(&e->writer);
    return count;
}

size_t lm_engine_mtus(struct lm_engine *e, struct lm_mtu *into, size_t most)
{
    size_t count = 0, bucket = 0;
    pthread_mutex_lock(&e->writer); /* keeps the remotes in place; path MTUs are atomic */
    for (struct lm_remote *r = NULL; (r = lm_locator_next_remote(e->locators, &bucket, r));)
        for (size_t i = 0; i < e->uplinks->path_count && count < most; i++) {
            uint32_t mtu = atomic_load(&r->state->mtu[i]);
            if (mtu)
                into[count++] = (struct lm_mtu){e->uplinks->paths[i].address, r->address, r->port, mtu};
        }
    pthread_mutex_unlock(&e->writer);
    return count;
}
