#include "engine/source.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/engine.h"

#define LOOPBACK 1   /* the ifindex of lo in every network namespace */
#define SENDERS 256u /* a power of two: senders that collide share their limit */

/* Ours. A peer that only sends is known after one lookup. Until then, this is enough to begin a conversation. */
#define UNKNOWN_PER_SECOND 2000u
#define UNKNOWN_BURST 2000u
#define UNKNOWN_SENDER_PER_SECOND 500u
#define UNKNOWN_SENDER_BURST 1000u

/* Ours. An RTR probes each node behind it every few seconds, and a hub hears from each node about as often. */
#define CONTROL_PER_SECOND 2000u
#define CONTROL_BURST 256u
#define CONTROL_SENDER_PER_SECOND 100u
#define CONTROL_SENDER_BURST 64u

/* Ours. A lookup takes one or two round trips. */
#define KEPT 256u
#define KEPT_OF_ONE 128u
#define KEPT_HEAD 64u /* before the packet: room for the headers of an RTR that forwards it */
#define KEPT_OCTETS 1600u
#define KEPT_NS UINT64_C(1000000000)

#define ASKS 256u
#define ASK_AGAIN_NS UINT64_C(3000000000) /* RFC 9301, 6.1: one Map-Request in 3 s for claims of others */
#define ASKS_PER_SECOND 20u
#define ASK_BURST 20u

struct kept {
    struct lm_addr outer, source; /* source.family 0: free */
    uint32_t instance_id;
    int ifindex;
    uint64_t at;
    size_t length;
    uint8_t ttl, tos;
    bool was_sealed;
    uint32_t opened_by; /* our index of its session */
};

struct lm_sources {
    struct lm_table *near; /* NULL until the control plane has set it */
    struct lm_token_bucket unknown, control, asks;
    struct lm_token_bucket unknown_of[SENDERS], control_of[SENDERS];
    struct lm_reported asked[ASKS];
    size_t next;
    size_t kept_count; /* may count expired packets; 0: none */
    struct kept kept[KEPT];
    uint8_t octets[KEPT][KEPT_HEAD + KEPT_OCTETS];
};

struct lm_sources *lm_sources_new(void)
{
    return calloc(1, sizeof(struct lm_sources));
}

void lm_sources_free(struct lm_sources *sources)
{
    if (sources)
        lm_table_free(sources->near);
    free(sources);
}

static enum lm_near near_of(const struct lm_engine *e, const struct lm_addr *address, unsigned *length)
{
    const struct lm_entry *found = e->sources->near ? lm_table_lookup(e->sources->near, 0, address) : NULL;
    if (found && length)
        *length = found->length;
    return found ? (enum lm_near)found->kind : 0;
}

static bool is_loopback(const struct lm_addr *address)
{
    static const uint8_t one[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->family == 4)
        return address->octets[0] == 127 || address->octets[0] == 0;
    return !memcmp(address->octets, one, 16) || !memcmp(address->octets, mapped, 12);
}

bool lm_source_is_local(const struct lm_engine *e, const struct lm_outer *outer)
{
    if (e->config.source_check == LM_CHECK_NOTHING)
        return false;
    return outer->ifindex == LOOPBACK || is_loopback(&outer->source) || lm_uplinks_owns(e->uplinks, &outer->source) ||
           near_of(e, &outer->source, NULL) == LM_NEAR_OWN || lm_table_lookup(e->eids, 0, &outer->source);
}

/* Returns the place of a sender. All addresses of one IPv6 /64 are one sender. */
static size_t sender(const struct lm_engine *e, const struct lm_addr *address)
{
    uint64_t words[2] = {lm_get64(address->octets), address->family};
    return (size_t)lm_hash(&e->key, words, 2) % SENDERS;
}

/* Takes from the limit of the sender first. A sender that has used it up takes nothing from the common limit. */
static bool takes(struct lm_token_bucket *own, uint64_t own_rate, uint64_t own_burst, struct lm_token_bucket *all,
                  uint64_t rate, uint64_t burst, uint64_t now)
{
    return lm_token_bucket_take(own, now, own_rate, own_burst) && lm_token_bucket_take(all, now, rate, burst);
}

static bool is_relay(const struct lm_engine *e, const struct lm_outer *outer)
{
    for (size_t i = 0; i < e->uplinks->path_count; i++) {
        const struct lm_path *path = &e->uplinks->paths[i];
        if (path->relays && lm_addr_equal(&path->address, &outer->destination))
            return lm_locator_set_holds(path->relays, &outer->source);
    }
    return false;
}

void lm_source_ask(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer)
{
    struct lm_sources *s = e->sources;
    const struct lm_addr *source = &data->inner.source;
    uint64_t words[3] = {lm_get64(source->octets), lm_get64(source->octets + 8), data->instance_id};
    uint64_t key = lm_hash(&e->key, words, 3) | 1;
    struct lm_reported *place = &s->asked[(key >> 1) % ASKS];
    if ((place->key == key && outer->now < place->until) ||
        !lm_token_bucket_take(&s->asks, outer->now, ASKS_PER_SECOND, ASK_BURST))
        return;
    *place = (struct lm_reported){key, outer->now + ASK_AGAIN_NS};
    struct lm_punt report = {.kind = LM_PUNT_SOURCE,
                             .instance_id = data->instance_id,
                             .source = *source,
                             .destination = data->inner.destination,
                             .outer_source = outer->source,
                             .outer_destination = outer->destination};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

enum lm_counter lm_source_judge(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer,
                                bool *is_proven)
{
    struct lm_sources *s = e->sources;
    const struct lm_addr *source = &data->inner.source;
    unsigned near_length = 0;
    *is_proven = true;
    if (e->config.source_check < LM_CHECK_LOOSE || is_relay(e, outer))
        return LM_COUNTER_COUNT;
    enum lm_near near = near_of(e, source, &near_length);
    const struct lm_entry *entry = lm_table_lookup(e->table, data->instance_id, source);
    bool is_mapped = entry && entry->kind == LM_ENCAPSULATE && entry->length;
    if (near == LM_NEAR_OWN || (near == LM_NEAR_LINK && !(is_mapped && entry->length > near_length)))
        return LM_data_near;
    if (near_of(e, &outer->source, NULL) == LM_NEAR_PROXY)
        return LM_COUNTER_COUNT;
    if (is_mapped)
        return lm_locator_set_holds(entry->value, &outer->source) ? LM_COUNTER_COUNT : LM_data_source;
    *is_proven = false;
    if (!entry || !entry->length)
        lm_source_ask(e, data, outer);
    if (e->config.source_check == LM_CHECK_STRICT)
        return LM_data_source;
    size_t place = sender(e, &outer->source);
    if (!takes(&s->unknown_of[place], UNKNOWN_SENDER_PER_SECOND, UNKNOWN_SENDER_BURST, &s->unknown, UNKNOWN_PER_SECOND,
               UNKNOWN_BURST, outer->now))
        return LM_data_unknown_limited;
    lm_count(&e->counters, LM_data_unknown);
    return LM_COUNTER_COUNT;
}

/* Returns a place for another packet of this source; NULL: enough packets of it are kept. */
static struct kept *find_room(struct lm_sources *s, const struct lm_data *data, uint64_t now)
{
    size_t same = 0;
    for (size_t i = 0; s->kept_count && i < KEPT; i++)
        same += s->kept[i].source.family && now < s->kept[i].at + KEPT_NS &&
                s->kept[i].instance_id == data->instance_id && lm_addr_equal(&s->kept[i].source, &data->inner.source);
    if (same >= KEPT_OF_ONE)
        return NULL;
    struct kept *place = &s->kept[s->next];
    s->next = (s->next + 1) % KEPT;
    s->kept_count += place->source.family == 0;
    return place;
}

void lm_source_keep(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                    const struct lm_outer *outer)
{
    struct lm_sources *s = e->sources;
    if (!e->config.is_rtr) /* an RTR reports unregistered sources instead */
        lm_source_ask(e, data, outer);
    if (data->inner.length > KEPT_OCTETS)
        return;
    struct kept *place = find_room(s, data, outer->now);
    if (!place)
        return;
    *place = (struct kept){.outer = outer->source,
                           .source = data->inner.source,
                           .instance_id = data->instance_id,
                           .ifindex = outer->ifindex,
                           .at = outer->now,
                           .length = data->inner.length,
                           .ttl = outer->ttl,
                           .tos = outer->tos,
                           .was_sealed = outer->opened_by != NULL,
                           .opened_by = outer->opened_by ? outer->opened_by->local_index : 0};
    memcpy(s->octets[place - s->kept] + KEPT_HEAD, packet, data->inner.length);
}

/* Forwards a kept packet of an RTR, as it would have been forwarded at once. */
static void relay(struct lm_engine *e, const struct kept *waiting, uint8_t *packet)
{
    struct lm_data data = {.instance_id = waiting->instance_id};
    struct lm_outer outer = {.source = waiting->outer,
                             .ifindex = waiting->ifindex,
                             .ttl = waiting->ttl,
                             .tos = waiting->tos,
                             .now = lm_clock_now()};
    if (!lm_packet_parse(packet, waiting->length, &data.inner) || !lm_rtr_take(e, packet, &data, &outer))
        return;
    lm_rtr_flush(e);
    lm_count(&e->counters, LM_data_moved);
}

static void deliver(struct lm_engine *e, const struct kept *waiting, uint8_t *packet)
{
    struct lm_inner inner;
    if (!lm_packet_parse(packet, waiting->length, &inner))
        return;
    enum lm_strip_verdict verdict = lm_packet_strip(packet, &inner, waiting->ttl, waiting->tos, e->config.copy_dscp);
    lm_vnet open;
    if (verdict == LM_STRIP_ECN || verdict == LM_STRIP_TTL)
        return;
    if (lm_segment_reopen_vnet(&open, packet, &inner)) {
        open.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        (void)lm_segment_complete_vnet(&open, packet, inner.length);
    }
    if (!lm_device_write(e, lm_lane_into(e, waiting->ifindex), packet, inner.length))
        return;
    lm_count(&e->counters, LM_data_moved);
    lm_count(&e->counters, LM_data_packets);
    lm_count_many(&e->counters, LM_data_octets, inner.length);
}

static bool covers(const struct lm_entry *entry, const struct kept *waiting)
{
    struct lm_addr head = waiting->source;
    lm_address_mask(&head, entry->length);
    return waiting->source.family == entry->address.family && waiting->instance_id == entry->instance_id &&
           lm_addr_equal(&head, &entry->address);
}

static bool is_true_of(const struct lm_engine *e, const struct lm_entry *entry, const struct kept *waiting)
{
    if (!waiting->was_sealed)
        return entry->kind == LM_ENCAPSULATE && lm_locator_set_holds(entry->value, &waiting->outer);
    const struct lm_session *session = lm_peers_find_session(e->peers, waiting->opened_by);
    return session && lm_peers_may_send(e->peers, session, &waiting->source);
}

void lm_source_release(struct lm_engine *e, const struct lm_entry *entry)
{
    struct lm_sources *s = e->sources;
    uint64_t now = s->kept_count ? lm_clock_now() : 0;
    for (size_t i = 0; s->kept_count && i < KEPT; i++) {
        struct kept *waiting = &s->kept[(s->next + i) % KEPT]; /* oldest first */
        if (!waiting->source.family || !covers(entry, waiting))
            continue;
        bool is_true = is_true_of(e, entry, waiting);
        if (is_true && now < waiting->at + KEPT_NS)
            (e->config.is_rtr ? relay : deliver)(e, waiting, s->octets[waiting - s->kept] + KEPT_HEAD);
        if (is_true || now >= waiting->at + KEPT_NS) {
            waiting->source.family = 0;
            s->kept_count--;
        }
    }
}

bool lm_source_admits_control(struct lm_engine *e, const struct lm_outer *outer)
{
    struct lm_sources *s = e->sources;
    size_t place = sender(e, &outer->source);
    if (is_relay(e, outer) || e->config.source_check == LM_CHECK_NOTHING)
        return true;
    return takes(&s->control_of[place], CONTROL_SENDER_PER_SECOND, CONTROL_SENDER_BURST, &s->control,
                 CONTROL_PER_SECOND, CONTROL_BURST, outer->now);
}

int lm_source_set_near(struct lm_engine *e, const struct lm_near_spec *near, size_t count)
{
    struct lm_table *fresh = lm_table_new(&e->key);
    for (size_t i = 0; fresh && i < count; i++) {
        struct lm_entry *entry = lm_table_insert(fresh, &near[i].prefix);
        if (!entry) {
            lm_table_free(fresh);
            return -ENOMEM;
        }
        entry->kind = near[i].kind;
        entry->value = (void *)(uintptr_t)near[i].kind;
    }
    return lm_engine_replace(e, &e->sources->near, LM_SPACE_NEAR, fresh);
}

const struct lm_table *lm_source_near(const struct lm_engine *e)
{
    return e->sources->near;
}

void lm_source_set_check(struct lm_engine *e, int check)
{
    lm_engine_lock(e);
    e->config.source_check = (uint8_t)check;
    if (e->mirror) {
        e->shared->source_check = (uint8_t)check;
        lm_mirror_changed(e->mirror);
    }
    lm_engine_unlock(e);
}
