#include "ebpf/mirror.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "table/uplink.h"

/*
 * A large map of the kernel. Its address range is reserved at once, and filled as far as it is used, because each page
 * counts as ours.
 */
struct window {
    enum lm_map map;
    uint8_t *at;
    size_t size, filled;
};

struct lm_mirror {
    struct lm_bpf_object *tier;
    int error;
    struct lm_shared_state *state;
    struct window remotes, used;
    struct lm_shared_counts *counts;
    struct lm_last_packet *last_packets;
    uint32_t uplinks; /* key of the uplinks in use; 0: none yet */
    uint32_t free_count;
    uint16_t free[LM_SHARED_REMOTES]; /* unused places of remotes */
};

static long bpf(int command, union bpf_attr *attributes)
{
    return syscall(__NR_bpf, command, attributes, sizeof *attributes);
}

static union bpf_attr element(const struct lm_mirror *m, enum lm_map map, const void *key, const void *value)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes); /* the kernel requires unused octets to be 0 */
    attributes.map_fd = (uint32_t)lm_bpf_object_map(m->tier, map);
    attributes.key = (uint64_t)(uintptr_t)key;
    attributes.value = (uint64_t)(uintptr_t)value;
    return attributes;
}

static void put(struct lm_mirror *m, enum lm_map map, const void *key, const void *value)
{
    union bpf_attr attributes = element(m, map, key, value);
    if (m->error || !bpf(BPF_MAP_UPDATE_ELEM, &attributes))
        return;
    m->error = -errno;
    atomic_store(&m->state->is_on, 0);
}

static void take_out(const struct lm_mirror *m, enum lm_map map, const void *key)
{
    union bpf_attr attributes = element(m, map, key, NULL);
    (void)bpf(BPF_MAP_DELETE_ELEM, &attributes);
}

static void *map_memory(const struct lm_mirror *m, enum lm_map map, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, lm_bpf_object_map(m->tier, map), 0);
    return at == MAP_FAILED ? NULL : at;
}

#define REMOTES_SIZE (LM_SHARED_REMOTES * sizeof(struct lm_remote_state))
#define USED_SIZE ((size_t)LM_SHARED_USED_PAGE * LM_SHARED_USED_PAGES)
#define LAST_PACKETS_SIZE (LM_LAST_PACKETS * sizeof(struct lm_last_packet))
#define FILL_STEP ((size_t)1 << 16) /* whole pages, whatever their size */

static struct window open_window(enum lm_map map, size_t size)
{
    void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return (struct window){.map = map, .at = at == MAP_FAILED ? NULL : at, .size = size};
}

/* Makes the first octets of a window usable; false: no memory. */
static bool fill(const struct lm_mirror *m, struct window *w, size_t octets)
{
    while (w->filled < octets) {
        size_t step = w->size - w->filled < FILL_STEP ? w->size - w->filled : FILL_STEP;
        if (mmap(w->at + w->filled, step, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 lm_bpf_object_map(m->tier, w->map), (off_t)w->filled) == MAP_FAILED)
            return false;
        w->filled += step;
    }
    return true;
}

static void close_window(struct window *w)
{
    if (w->at)
        munmap(w->at, w->size);
}

static struct lm_remote_state *state_at(const struct lm_mirror *m, uint32_t number)
{
    return (struct lm_remote_state *)(void *)m->remotes.at + number;
}

static size_t counts_size(const struct lm_mirror *m)
{
    return lm_bpf_object_processors(m->tier) * sizeof(struct lm_shared_counts);
}

struct lm_mirror *lm_mirror_new(struct lm_bpf_object *tier, int device, int *error)
{
    struct lm_mirror *m = calloc(1, sizeof *m);
    *error = -ENOMEM;
    if (!m) {
        lm_bpf_object_free(tier);
        return NULL;
    }
    m->tier = tier;
    m->state = map_memory(m, LM_MAP_STATE, sizeof *m->state);
    m->remotes = open_window(LM_MAP_REMOTES, REMOTES_SIZE);
    m->used = open_window(LM_MAP_USED, USED_SIZE);
    m->counts = map_memory(m, LM_MAP_COUNTS, counts_size(m));
    m->last_packets = map_memory(m, LM_MAP_LAST_PACKETS, LAST_PACKETS_SIZE);
    if (!m->state || !m->remotes.at || !m->used.at || !m->counts || !m->last_packets) {
        *error = -errno;
        lm_mirror_free(m);
        return NULL;
    }
    while (m->free_count < LM_SHARED_REMOTES) {
        m->free[m->free_count] = (uint16_t)(LM_SHARED_REMOTES - 1 - m->free_count);
        m->free_count++;
    }
    m->state->device = (uint32_t)device;
    atomic_store(&m->state->generation, 1); /* the programs' own memory starts with 0 */
    return m;
}

void lm_mirror_free(struct lm_mirror *m)
{
    if (!m)
        return;
    if (m->counts)
        munmap(m->counts, counts_size(m));
    if (m->last_packets)
        munmap(m->last_packets, LAST_PACKETS_SIZE);
    lm_bpf_object_free(m->tier);
    if (m->state)
        munmap(m->state, sizeof *m->state);
    close_window(&m->remotes);
    close_window(&m->used);
    free(m);
}

int lm_mirror_error(const struct lm_mirror *m)
{
    return m->error;
}

struct lm_shared_state *lm_mirror_state(const struct lm_mirror *m)
{
    return m->state;
}

struct lm_last_packet *lm_mirror_last_packets(const struct lm_mirror *m)
{
    return m->last_packets;
}

struct lm_bpf_object *lm_mirror_tier(const struct lm_mirror *m)
{
    return m->tier;
}

void lm_mirror_changed(struct lm_mirror *m)
{
    atomic_fetch_add(&m->state->generation, 1);
}

static struct lm_shared_address address_of(const struct lm_addr *address)
{
    struct lm_shared_address made = {.family = address->family};
    memcpy(made.octets, address->octets, sizeof made.octets);
    return made;
}

static void copy_silence(struct lm_silence *into, struct lm_silence *from)
{
    atomic_store(&into->quick, atomic_load(&from->quick));
    atomic_store(&into->slow, atomic_load(&from->slow));
    atomic_store(&into->since, atomic_load(&from->since));
    atomic_store(&into->heard, atomic_load(&from->heard));
    atomic_store(&into->octets, atomic_load(&from->octets));
    atomic_store(&into->is_reported, atomic_load(&from->is_reported));
}

static void copy_state(struct lm_remote_state *into, struct lm_remote_state *from)
{
    atomic_store(&into->coped_at, atomic_load(&from->coped_at));
    atomic_store(&into->check_at, atomic_load(&from->check_at));
    atomic_store(&into->unanswered_checks, atomic_load(&from->unanswered_checks));
    for (size_t i = 0; i < LM_SHARED_PATHS; i++)
        atomic_store(&into->mtu[i], atomic_load(&from->mtu[i]));
    atomic_store(&into->large_at, atomic_load(&from->large_at));
    atomic_store(&into->large_seen, atomic_load(&from->large_seen));
    atomic_store(&into->large_paths, atomic_load(&from->large_paths));
    atomic_store(&into->head, atomic_load(&from->head));
    copy_silence(&into->silence, &from->silence);
    copy_silence(&into->group, &from->group);
    atomic_store(&into->echo.until, atomic_load(&from->echo.until));
    atomic_store(&into->echo.owed, atomic_load(&from->echo.owed));
    atomic_store(&into->echo.copies, atomic_load(&from->echo.copies));
    atomic_store(&into->echo.asked, atomic_load(&from->echo.asked));
    atomic_store(&into->sent, atomic_load(&from->sent));
    atomic_store(&into->sent_octets, atomic_load(&from->sent_octets));
    atomic_store(&into->received, atomic_load(&from->received));
    atomic_store(&into->received_octets, atomic_load(&from->received_octets));
    atomic_store(&into->unsummed_at, atomic_load(&from->unsummed_at));
    atomic_store(&into->summed, atomic_load(&from->summed));
}

void lm_mirror_remote(struct lm_mirror *m, struct lm_remote *remote, bool is_first)
{
    if (m->free_count == 0)
        return; /* the tun tier sends to it */
    uint32_t number = m->free[m->free_count - 1];
    if (!fill(m, &m->remotes, (number + 1) * sizeof(struct lm_remote_state)))
        return;
    m->free_count--;
    remote->number = number;
    copy_state(state_at(m, number), &remote->own);
    remote->state = state_at(m, number);
    if ((remote->port != m->state->data_port && remote->port != LM_PORT_CONTROL) || !is_first)
        return; /* a node behind a NAT: its port is none of the two */
    struct lm_shared_address key = address_of(&remote->address);
    put(m, LM_MAP_ADDRESSES, &key, &remote->number);
}

void lm_mirror_remote_gone(struct lm_mirror *m, struct lm_remote *remote)
{
    if (remote->number == LM_NO_REMOTE)
        return;
    struct lm_shared_address key = address_of(&remote->address);
    uint32_t there = LM_NO_REMOTE;
    union bpf_attr attributes = element(m, LM_MAP_ADDRESSES, &key, &there);
    if (!bpf(BPF_MAP_LOOKUP_ELEM, &attributes) && there == remote->number)
        take_out(m, LM_MAP_ADDRESSES, &key);
    copy_state(&remote->own, remote->state);
    remote->state = &remote->own;
    m->free[m->free_count++] = (uint16_t)remote->number;
    remote->number = LM_NO_REMOTE;
}

static struct lm_shared_locator locator_of(const struct lm_locator_set *set, size_t place)
{
    const struct lm_locator_spec *spec = &set->specs[place];
    bool is_bound = spec->source.family && spec->fd >= 0;
    bool is_sealed = set->wish.peer || set->wish.must_seal; /* only the threads seal */
    bool is_plain = (is_bound || !spec->source.family) && !lm_address_is_link_local(&spec->address) && !is_sealed;
    struct lm_shared_locator made = {.contender = {.identity = set->contenders[place].identity,
                                                   .family = spec->address.family,
                                                   .priority = spec->priority,
                                                   .weight = spec->weight},
                                     .remote = is_plain ? set->remotes[place]->number : LM_NO_REMOTE,
                                     .port = spec->port};
    memcpy(made.address, spec->address.octets, sizeof made.address);
    if (!is_bound)
        return made;
    memcpy(made.source, spec->source.octets, sizeof made.source);
    made.source_port = lm_uplink_port_of(spec->fd);
    if (made.source_port == 0 || spec->source.family != spec->address.family)
        made.remote = LM_NO_REMOTE;
    return made;
}

/*
 * Copies a locator set. Locators that no program could send to are left out: an RTR may serve more nodes than the
 * kernel has room for.
 */
void lm_mirror_set(struct lm_mirror *m, const struct lm_locator_set *set)
{
    struct lm_shared_set made = {.count = (uint32_t)set->count};
    bool is_of_use = false;
    for (size_t i = 0; i < set->count; i++) {
        made.locators[i] = locator_of(set, i);
        made.is_translated |= set->specs[i].source.family != 0;
        is_of_use = is_of_use || made.locators[i].remote != LM_NO_REMOTE;
    }
    if (is_of_use)
        put(m, LM_MAP_SETS, &set->number, &made);
}

void lm_mirror_origin(const struct lm_mirror *m, const struct lm_addr *inner, const struct lm_addr *outer,
                      uint16_t port)
{
    struct lm_shared_origin key = {.inner = address_of(inner), .outer = address_of(outer), .port = port};
    uint32_t none = 0;
    union bpf_attr attributes = element(m, LM_MAP_ORIGINS, &key, &none);
    (void)bpf(BPF_MAP_UPDATE_ELEM, &attributes); /* without it the tun tier continues */
}

void lm_mirror_set_gone(struct lm_mirror *m, const struct lm_locator_set *set)
{
    take_out(m, LM_MAP_SETS, &set->number);
}

static struct lm_trie_key key_of(enum lm_space space, uint32_t instance_id, unsigned bits,
                                 const struct lm_addr *address)
{
    struct lm_trie_key key = {
        .bits = LM_TRIE_HEAD_BITS + bits,
        .space = (uint8_t)(space + (address->family == 6)),
        .instance_id = {(uint8_t)(instance_id >> 16), (uint8_t)(instance_id >> 8), (uint8_t)instance_id}};
    memcpy(key.address, address->octets, sizeof key.address);
    return key;
}

void lm_mirror_entry(struct lm_mirror *m, const struct lm_table *table, const struct lm_entry *entry)
{
    const struct lm_locator_set *set = entry->value;
    struct lm_trie_key key = key_of(LM_SPACE_TABLE, entry->instance_id, entry->length, &entry->address);
    struct lm_trie_value value = {
        .number = lm_table_number(table, entry), .value = set ? set->number : 0, .kind = entry->kind};
    if (value.number < USED_SIZE && !fill(m, &m->used, value.number + 1u))
        m->error = m->error ? m->error : -ENOMEM;
    else if (value.number < USED_SIZE)
        put(m, LM_MAP_TABLE, &key, &value);
    else if (!m->error)
        m->error = -E2BIG;
    if (m->error)
        atomic_store(&m->state->is_on, 0);
}

void lm_mirror_entry_gone(struct lm_mirror *m, const struct lm_prefix *prefix)
{
    struct lm_addr masked = prefix->address;
    lm_address_mask(&masked, prefix->length);
    struct lm_trie_key key = key_of(LM_SPACE_TABLE, prefix->instance_id, prefix->length, &masked);
    take_out(m, LM_MAP_TABLE, &key);
}

void lm_mirror_replace(struct lm_mirror *m, enum lm_space space, const struct lm_table *old,
                       const struct lm_table *fresh)
{
    uint32_t cursor = 0;
    for (struct lm_entry *e; (e = lm_table_next(fresh, &cursor));) {
        struct lm_trie_key key = key_of(space, e->instance_id, e->length, &e->address);
        struct lm_trie_value value = {.value = (uint32_t)(uintptr_t)e->value};
        put(m, LM_MAP_TABLE, &key, &value);
    }
    cursor = 0;
    for (struct lm_entry *e; old && (e = lm_table_next(old, &cursor));) {
        struct lm_prefix prefix = {e->instance_id, e->length, e->address};
        struct lm_trie_key key = key_of(space, e->instance_id, e->length, &e->address);
        if (!lm_table_find(fresh, &prefix))
            take_out(m, LM_MAP_TABLE, &key);
    }
}

void lm_mirror_rloc(struct lm_mirror *m, const struct lm_addr *address, int place)
{
    struct lm_trie_key key = key_of(LM_SPACE_RLOCS, 0, address->family == 4 ? 32 : 128, address);
    struct lm_trie_value value = {.value = (uint32_t)place};
    if (place >= 0)
        put(m, LM_MAP_TABLE, &key, &value);
    else
        take_out(m, LM_MAP_TABLE, &key);
}

void lm_mirror_uplinks(struct lm_mirror *m, const struct lm_shared_uplinks *uplinks)
{
    uint32_t before = m->uplinks, key = before + 1 ? before + 1 : 1;
    put(m, LM_MAP_UPLINKS, &key, uplinks);
    m->uplinks = key;
    atomic_store(&m->state->uplinks, key);
    if (before)
        take_out(m, LM_MAP_UPLINKS, &before);
}

bool lm_mirror_way(const struct lm_mirror *m, int ifindex, uint32_t routes, const struct lm_addr *to, bool is_straight)
{
    struct lm_shared_way way = {.ifindex = (uint32_t)ifindex, .routes = routes};
    uint32_t value = is_straight;
    memcpy(way.address, to->octets, sizeof way.address);
    union bpf_attr attributes = element(m, LM_MAP_WAYS, &way, &value);
    if (!bpf(BPF_MAP_UPDATE_ELEM, &attributes))
        return true;
    for (int i = 0; i < LM_SHARED_WAYS;
         i++) { /* removes all: most belong to earlier routes, and are not looked up again */
        attributes = element(m, LM_MAP_WAYS, NULL, NULL); /* no key: the first entry */
        attributes.next_key = (uint64_t)(uintptr_t)&way;
        if (bpf(BPF_MAP_GET_NEXT_KEY, &attributes))
            break;
        take_out(m, LM_MAP_WAYS, &way);
    }
    return false;
}

bool lm_mirror_take_used(struct lm_mirror *m, const struct lm_table *table, const struct lm_entry *entry)
{
    uint32_t number = lm_table_number(table, entry);
    if (number >= m->used.filled || !__atomic_load_n(&m->used.at[number], __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&m->used.at[number], 0, __ATOMIC_RELAXED);
    return true;
}

static struct lm_addr from_shared(const struct lm_shared_address *address)
{
    struct lm_addr made = {.family = (uint8_t)address->family, .octets = {0}};
    memcpy(made.octets, address->octets, sizeof made.octets);
    return made;
}

size_t lm_mirror_take_heard(struct lm_mirror *m, struct lm_heard *into, size_t most)
{
    size_t count = 0;
    for (struct lm_shared_heard next; count < most; count++) {
        union bpf_attr attributes = element(m, LM_MAP_HEARD, NULL, NULL); /* no key: the first entry */
        attributes.next_key = (uint64_t)(uintptr_t)&next;
        if (bpf(BPF_MAP_GET_NEXT_KEY, &attributes))
            break;
        take_out(m, LM_MAP_HEARD, &next);
        /* The programs deliver only packets that need no limit, so the sender is proven. */
        into[count] = (struct lm_heard){from_shared(&next.source), from_shared(&next.local), true};
    }
    return count;
}

void lm_mirror_counts(const struct lm_mirror *m, struct lm_shared_counts *sum)
{
    for (unsigned i = 0; i < lm_bpf_object_processors(m->tier); i++) {
        sum->out_packets += __atomic_load_n(&m->counts[i].out_packets, __ATOMIC_RELAXED);
        sum->out_octets += __atomic_load_n(&m->counts[i].out_octets, __ATOMIC_RELAXED);
        sum->data_packets += __atomic_load_n(&m->counts[i].data_packets, __ATOMIC_RELAXED);
        sum->data_octets += __atomic_load_n(&m->counts[i].data_octets, __ATOMIC_RELAXED);
        sum->lost += __atomic_load_n(&m->counts[i].lost, __ATOMIC_RELAXED);
    }
}
