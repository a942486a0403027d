#include "table/locator.h"

#include <stdlib.h>

#include "ebpf/mirror.h"

#define BUCKETS_MIN 64u

/* Two chained hash tables of the same kind: sets by content, remotes by address and port. */
struct lm_locators {
    struct lm_locator_set **sets;
    struct lm_remote **remotes;
    struct lm_remote *watched;
    size_t set_buckets, remote_buckets, set_count, remote_count;
    uint32_t last_number;     /* of a set */
    struct lm_mirror *mirror; /* NULL: the BPF programs are not in use */
};

/* Locators come from authenticated registrations or matched replies and are few per peer: FNV-1a is sufficient. */
static uint64_t fnv(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *octets = data;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ octets[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

#define FNV_START UINT64_C(0xcbf29ce484222325)

static uint64_t hash_remote(const struct lm_addr *address, uint16_t port)
{
    return fnv(fnv(FNV_START, address, sizeof *address), &port, sizeof port);
}

static uint64_t hash_specs(const struct lm_locator_spec *specs, size_t count)
{
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < count; i++) {
        uint8_t rest[4] = {(uint8_t)(specs[i].port >> 8), (uint8_t)specs[i].port, specs[i].priority, specs[i].weight};
        hash = fnv(fnv(hash, &specs[i].address, sizeof specs[i].address), rest, sizeof rest);
        hash = fnv(hash, &specs[i].source, sizeof specs[i].source);
    }
    return hash;
}

static bool same_way(const struct lm_locator_spec *spec, const struct lm_addr *source, int fd)
{
    return lm_addr_equal(&spec->source, source) && (spec->source.family == 0 || spec->fd == fd);
}

static bool same_specs(const struct lm_locator_spec *a, const struct lm_locator_spec *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!lm_addr_equal(&a[i].address, &b[i].address) || a[i].port != b[i].port || a[i].priority != b[i].priority ||
            a[i].weight != b[i].weight || a[i].is_relay != b[i].is_relay || a[i].is_on_trial != b[i].is_on_trial ||
            !same_way(&a[i], &b[i].source, b[i].fd))
            return false;
    return true;
}

static bool same_wish(const struct lm_seal_wish *a, const struct lm_seal_wish *b)
{
    return a->peer == b->peer && a->must_seal == b->must_seal && a->map_version == b->map_version;
}

/* The identity of a locator: family, 16 octets of address, port. It does not depend on priority and weight. */
static uint64_t identity(const struct lm_locator_spec *spec)
{
    uint8_t name[19] = {spec->address.family};
    memcpy(name + 1, spec->address.octets, 16);
    name[17] = (uint8_t)(spec->port >> 8);
    name[18] = (uint8_t)spec->port;
    return lm_rendezvous_identity(name, sizeof name);
}

static void enter(struct lm_locator_set *set, unsigned families)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct lm_locator_spec *spec = &set->specs[i];
        bool takes_part = (lm_family_bit(spec->address.family) & families) != 0;
        set->contenders[(families - 1) * set->count + i] =
            (struct lm_contender){identity(spec), takes_part ? spec->priority : LM_PRIORITY_NEVER, spec->weight};
    }
}

struct lm_locators *lm_locators_new(void)
{
    struct lm_locators *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    all->set_buckets = all->remote_buckets = BUCKETS_MIN;
    all->sets = calloc(BUCKETS_MIN, sizeof(struct lm_locator_set *));
    all->remotes = calloc(BUCKETS_MIN, sizeof(struct lm_remote *));
    if (all->sets && all->remotes)
        return all;
    lm_locators_free(all);
    return NULL;
}

/* Growth only affects speed: without memory the chains get longer. */
static void grow_sets(struct lm_locators *all)
{
    if (all->set_count < all->set_buckets)
        return;
    size_t buckets = all->set_buckets * 4;
    struct lm_locator_set **fresh = calloc(buckets, sizeof(struct lm_locator_set *));
    if (!fresh)
        return;
    for (size_t i = 0; i < all->set_buckets; i++) {
        for (struct lm_locator_set *set = all->sets[i], *next; set; set = next) {
            next = set->next;
            set->next = fresh[set->hash % buckets];
            fresh[set->hash % buckets] = set;
        }
    }
    free(all->sets);
    all->sets = fresh;
    all->set_buckets = buckets;
}

static void grow_remotes(struct lm_locators *all)
{
    if (all->remote_count < all->remote_buckets)
        return;
    size_t buckets = all->remote_buckets * 4;
    struct lm_remote **fresh = calloc(buckets, sizeof(struct lm_remote *));
    if (!fresh)
        return;
    for (size_t i = 0; i < all->remote_buckets; i++) {
        for (struct lm_remote *remote = all->remotes[i], *next; remote; remote = next) {
            next = remote->next;
            uint64_t hash = hash_remote(&remote->address, remote->port);
            remote->next = fresh[hash % buckets];
            fresh[hash % buckets] = remote;
        }
    }
    free(all->remotes);
    all->remotes = fresh;
    all->remote_buckets = buckets;
}

struct lm_remote *lm_locator_find_remote(const struct lm_locators *all, const struct lm_addr *address, uint16_t port)
{
    struct lm_remote *remote = all->remotes[hash_remote(address, port) % all->remote_buckets];
    while (remote && (remote->port != port || !lm_addr_equal(&remote->address, address)))
        remote = remote->next;
    return remote;
}

static struct lm_remote *remote_take(struct lm_locators *all, const struct lm_locator_spec *spec)
{
    struct lm_remote *remote = lm_locator_find_remote(all, &spec->address, spec->port);
    while (remote && (remote->port != spec->port || !lm_addr_equal(&remote->address, &spec->address) ||
                      !same_way(spec, &remote->source, remote->fd)))
        remote = remote->next;
    if (!remote) {
        if (!(remote = calloc(1, sizeof *remote)))
            return NULL;
        grow_remotes(all);
        remote->address = spec->address;
        remote->port = spec->port;
        remote->source = spec->source;
        remote->fd = spec->fd;
        remote->state = &remote->own;
        remote->number = LM_NO_REMOTE;
        atomic_store(&remote->own.head, LM_NO_REMOTE);
        struct lm_remote **bucket = &all->remotes[hash_remote(&spec->address, spec->port) % all->remote_buckets];
        remote->next = *bucket;
        *bucket = remote;
        all->remote_count++;
        if (all->mirror)
            lm_mirror_remote(all->mirror, remote,
                             lm_locator_find_remote(all, &remote->address, remote->port) == remote);
    }
    remote->references++;
    return remote;
}

struct lm_remote *lm_locators_watched(const struct lm_locators *all)
{
    return all->watched;
}

void lm_locator_watch_remote(struct lm_locators *all, struct lm_remote *remote, bool is_watched)
{
    if (remote->is_watched == is_watched)
        return;
    remote->is_watched = is_watched;
    struct lm_remote **link = &all->watched;
    if (is_watched) {
        remote->next_watched = *link;
        *link = remote;
        return;
    }
    while (*link != remote)
        link = &(*link)->next_watched;
    *link = remote->next_watched;
}

static void tell_head(struct lm_remote *remote)
{
    atomic_store(&remote->state->head, remote->head ? remote->head->number : LM_NO_REMOTE);
}

void lm_locator_join_remotes(struct lm_remote *remote, struct lm_remote *head)
{
    if (remote->head == head)
        return;
    if (remote->head)
        remote->head->members--;
    if (head)
        head->members++;
    remote->head = head;
    tell_head(remote);
}

static void remote_drop(struct lm_locators *all, struct lm_remote *remote)
{
    if (!remote || --remote->references)
        return;
    lm_locator_watch_remote(all, remote, false);
    lm_locator_join_remotes(remote, NULL);
    for (struct lm_remote *r = all->watched; remote->members && r; r = r->next_watched)
        if (r->head == remote)
            lm_locator_join_remotes(r, NULL);
    struct lm_remote **link = &all->remotes[hash_remote(&remote->address, remote->port) % all->remote_buckets];
    while (*link != remote)
        link = &(*link)->next;
    *link = remote->next;
    all->remote_count--;
    if (all->mirror)
        lm_mirror_remote_gone(all->mirror, remote);
    free(remote);
}

static void set_free(struct lm_locators *all, struct lm_locator_set *set)
{
    for (size_t i = 0; set->remotes && i < set->count; i++)
        remote_drop(all, set->remotes[i]);
    free(set->remotes);
    free(set->contenders);
    free(set->specs);
    free(set);
}

struct lm_locator_set *lm_locator_set_take(struct lm_locators *all, const struct lm_locator_spec *specs, size_t count)
{
    return lm_locator_set_take_sealed(all, specs, count, (struct lm_seal_wish){0});
}

struct lm_locator_set *lm_locator_set_take_sealed(struct lm_locators *all, const struct lm_locator_spec *specs,
                                                  size_t count, struct lm_seal_wish wish)
{
    if (count > LM_LOCATORS_MAX)
        count = LM_LOCATORS_MAX;
    uint64_t hash = fnv(hash_specs(specs, count), &wish.peer, sizeof wish.peer);
    for (struct lm_locator_set *set = all->sets[hash % all->set_buckets]; set; set = set->next)
        if (set->hash == hash && set->count == count && same_wish(&set->wish, &wish) &&
            same_specs(set->specs, specs, count)) {
            set->references++;
            return set;
        }
    struct lm_locator_set *set = calloc(1, sizeof *set);
    if (!set)
        return NULL;
    *set = (struct lm_locator_set){.references = 1, .hash = hash, .wish = wish, .count = count};
    atomic_init(&set->trial, LM_TRIAL_PACKETS);
    set->specs = calloc(count + 1, sizeof *set->specs);
    set->remotes = calloc(count + 1, sizeof(struct lm_remote *));
    set->contenders = calloc(3 * count + 1, sizeof *set->contenders);
    bool is_whole = set->specs && set->remotes && set->contenders;
    for (size_t i = 0; is_whole && i < count; i++) {
        set->specs[i] = specs[i];
        is_whole = (set->remotes[i] = remote_take(all, &specs[i])) != NULL;
    }
    if (!is_whole) {
        set_free(all, set);
        return NULL;
    }
    for (unsigned families = 1; families <= 3; families++)
        enter(set, families);
    grow_sets(all);
    set->next = all->sets[hash % all->set_buckets];
    all->sets[hash % all->set_buckets] = set;
    all->set_count++;
    set->number = ++all->last_number ? all->last_number : ++all->last_number; /* 0 means "none" */
    if (all->mirror)
        lm_mirror_set(all->mirror, set);
    return set;
}

void lm_locator_set_drop(struct lm_locators *all, struct lm_locator_set *set)
{
    if (!set || --set->references)
        return;
    struct lm_locator_set **link = &all->sets[set->hash % all->set_buckets];
    while (*link != set)
        link = &(*link)->next;
    *link = set->next;
    all->set_count--;
    if (all->mirror)
        lm_mirror_set_gone(all->mirror, set);
    set_free(all, set);
}

void lm_locators_free(struct lm_locators *all)
{
    if (!all)
        return;
    for (size_t i = 0; all->sets && i < all->set_buckets; i++)
        while (all->sets[i]) {
            struct lm_locator_set *set = all->sets[i];
            all->sets[i] = set->next;
            set_free(all, set);
        }
    free(all->sets);
    free(all->remotes);
    free(all);
}

struct lm_remote *lm_locator_choose(const struct lm_locator_set *set, unsigned families, uint64_t flow)
{
    if (!set || families == 0)
        return NULL;
    int index = lm_rendezvous_choose(set->contenders + (families - 1) * set->count, set->count, flow);
    return index < 0 ? NULL : set->remotes[index];
}

unsigned lm_locator_best_families(const struct lm_locator_set *set, unsigned families)
{
    unsigned best = LM_PRIORITY_NEVER, found = 0;
    for (size_t i = 0; set && families && i < set->count; i++) {
        unsigned family = lm_family_bit(set->specs[i].address.family), priority = set->specs[i].priority;
        if (!(family & families) || priority == LM_PRIORITY_NEVER || priority > best)
            continue;
        found = priority < best ? family : found | family;
        best = priority;
    }
    return found;
}

bool lm_locator_may_take(struct lm_locator_set *set, const struct lm_remote *remote, size_t packets)
{
    bool is_on_trial = false;
    for (size_t i = 0; !is_on_trial && i < set->count; i++)
        is_on_trial = set->specs[i].is_on_trial && set->remotes[i] == remote;
    if (!is_on_trial)
        return true;
    int left = atomic_load_explicit(&set->trial, memory_order_relaxed);
    while (left >= (int)packets)
        if (atomic_compare_exchange_weak(&set->trial, &left, left - (int)packets))
            return true;
    return false;
}

bool lm_locator_set_holds(const struct lm_locator_set *set, const struct lm_addr *address)
{
    for (size_t i = 0; set && i < set->count; i++)
        if (lm_addr_equal(&set->specs[i].address, address))
            return true;
    return false;
}

void lm_locator_forget_remotes(const struct lm_locators *all)
{
    for (size_t i = 0; i < all->remote_buckets; i++)
        for (struct lm_remote *remote = all->remotes[i]; remote; remote = remote->next) {
            for (size_t place = 0; place < LM_SHARED_PATHS; place++)
                atomic_store_explicit(&remote->state->mtu[place], 0, memory_order_relaxed);
            atomic_store_explicit(&remote->state->large_paths, 0, memory_order_relaxed);
        }
}

void lm_locator_set_mtu(const struct lm_locators *all, const struct lm_addr *address, uint16_t port, size_t place,
                        uint32_t mtu)
{
    for (struct lm_remote *r = lm_locator_find_remote(all, address, port); r; r = r->next)
        if (r->port == port && lm_addr_equal(&r->address, address))
            atomic_store_explicit(&r->state->mtu[place], (uint16_t)mtu, memory_order_relaxed);
}

struct lm_remote *lm_locator_next_remote(const struct lm_locators *all, size_t *bucket, struct lm_remote *last)
{
    if (last && last->next)
        return last->next;
    while (*bucket < all->remote_buckets) {
        struct lm_remote *first = all->remotes[(*bucket)++];
        if (first)
            return first;
    }
    return NULL;
}

void lm_locators_reflect(struct lm_locators *all, struct lm_mirror *mirror)
{
    size_t bucket = 0;
    for (struct lm_remote *r = NULL; (r = lm_locator_next_remote(all, &bucket, r));) {
        if (mirror)
            lm_mirror_remote(mirror, r, lm_locator_find_remote(all, &r->address, r->port) == r);
        else if (all->mirror)
            lm_mirror_remote_gone(all->mirror, r);
    }
    bucket = 0;
    for (struct lm_remote *r = NULL; (r = lm_locator_next_remote(all, &bucket, r));)
        tell_head(r);
    for (size_t i = 0; mirror && i < all->set_buckets; i++)
        for (struct lm_locator_set *set = all->sets[i]; set; set = set->next)
            lm_mirror_set(mirror, set);
    all->mirror = mirror;
}
