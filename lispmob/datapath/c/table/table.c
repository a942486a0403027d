#include "table/table.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "table/lengths.h"

#define FIRST_CHUNK 1024u    /* entries that are allocated at once; they are never moved */
#define CHUNK 65536u         /* the same for later allocations: one huge page */
#define HUGE_PAGE (2u << 20) /* of most processors; elsewhere only a round number */
#define SLOTS_MIN 64u        /* a power of two */
#define MOVES_PER_UPDATE 32u /* slots of the old array that every update moves */
#define MOVES_TO_SETTLE 4096u
#define EMPTY 0u
#define TOMBSTONE 0xffffffu
#define ENTRIES_MAX (TOMBSTONE - 1)

/*
 * A slot is small, so that the cache holds many: the number of the entry + 1, and 8 bits of the hash, which exclude
 * most other entries.
 */
struct slot {
    uint32_t index : 24, tag : 8;
};

struct slots {
    struct slot *at;
    uint32_t size;  /* power of two; 0: no array */
    uint32_t taken; /* live slots and tombstones */
};

struct lm_table {
    struct lm_key key;
    struct slots now, old; /* while the table grows, an entry is in one or the other */
    uint32_t moved;        /* slots of `old` below this are empty */
    struct lm_entry **chunks;
    uint32_t chunk_count, next, live;
    uint32_t free_head; /* entry number + 1; linked through instance_id */
    struct lm_lengths_of spaces;
};

/*
 * Allocates zeroed memory. Large blocks use huge pages if the kernel has some: a lookup in a large table then needs no
 * page walk.
 */
static void *room_make(size_t size)
{
    if (size < HUGE_PAGE)
        return calloc(1, size);
    void *room = aligned_alloc(HUGE_PAGE, size);
    if (!room)
        return NULL;
    (void)madvise(room, size, MADV_HUGEPAGE);
    return memset(room, 0, size);
}

static struct lm_entry *entry_at(const struct lm_table *t, uint32_t number)
{
    if (number < FIRST_CHUNK)
        return &t->chunks[0][number];
    number -= FIRST_CHUNK;
    return &t->chunks[1 + number / CHUNK][number % CHUNK];
}

static uint64_t hash_prefix(const struct lm_table *t, uint32_t iid, const struct lm_addr *masked, unsigned length)
{
    uint64_t words[3] = {(uint64_t)iid << 32 | length << 8 | masked->family, lm_get64(masked->octets), 0};
    if (masked->family == 4)
        return lm_hash(&t->key, words, 2);
    words[2] = lm_get64(masked->octets + 8);
    return lm_hash(&t->key, words, 3);
}

static bool is_same(const struct lm_entry *e, uint32_t iid, const struct lm_addr *masked, unsigned length)
{
    return e->instance_id == iid && e->length == length && lm_addr_equal(&e->address, masked);
}

static struct slot *slot_find(const struct lm_table *t, const struct slots *s, uint64_t hash, uint32_t iid,
                              const struct lm_addr *masked, unsigned length)
{
    if (s->size == 0)
        return NULL;
    uint32_t mask = s->size - 1;
    for (uint32_t i = (uint32_t)(hash >> 32) & mask;; i = (i + 1) & mask) {
        struct slot *slot = &s->at[i];
        if (slot->index == EMPTY)
            return NULL;
        if (slot->index != TOMBSTONE && slot->tag == (uint8_t)hash &&
            is_same(entry_at(t, slot->index - 1), iid, masked, length))
            return slot;
    }
}

static struct slot *find(const struct lm_table *t, uint64_t hash, uint32_t iid, const struct lm_addr *masked,
                         unsigned length)
{
    struct slot *slot = slot_find(t, &t->now, hash, iid, masked, length);
    return slot ? slot : slot_find(t, &t->old, hash, iid, masked, length);
}

static void slot_put(struct slots *s, uint64_t hash, uint32_t index)
{
    uint32_t mask = s->size - 1, i = (uint32_t)(hash >> 32) & mask;
    while (s->at[i].index != EMPTY && s->at[i].index != TOMBSTONE)
        i = (i + 1) & mask;
    s->taken += s->at[i].index == EMPTY;
    s->at[i] = (struct slot){.index = index & TOMBSTONE, .tag = (uint8_t)hash};
}

static void move_some(struct lm_table *t, uint32_t slots)
{
    for (; slots > 0 && t->old.size; slots--) {
        struct slot *slot = &t->old.at[t->moved];
        if (slot->index != EMPTY && slot->index != TOMBSTONE) {
            const struct lm_entry *e = entry_at(t, slot->index - 1);
            slot_put(&t->now, hash_prefix(t, e->instance_id, &e->address, e->length), slot->index);
            slot->index = TOMBSTONE; /* keeps the probe chains of the old array intact */
        }
        if (++t->moved == t->old.size) {
            free(t->old.at);
            t->old = (struct slots){0};
        }
    }
}

/*
 * Makes room for one more slot. When three quarters are taken, a new array replaces the old one, of twice the size if
 * most slots are live.
 */
static bool make_room(struct lm_table *t)
{
    if (t->now.size && t->now.taken + 1 <= t->now.size / 4 * 3)
        return true;
    move_some(t, t->old.size); /* rarely moves anything: the old array is empty before the new one is full */
    uint32_t size = t->now.size ? t->now.size : SLOTS_MIN;
    while (t->live >= size / 2)
        size *= 2;
    struct slot *fresh = room_make(size * sizeof *fresh);
    if (!fresh)
        return false;
    t->old = t->now;
    t->moved = 0;
    t->now = (struct slots){.at = fresh, .size = size};
    if (t->old.size == 0)
        t->old = (struct slots){0};
    return true;
}

static bool entry_make(struct lm_table *t, uint32_t *number)
{
    if (t->free_head) {
        *number = t->free_head - 1;
        t->free_head = entry_at(t, *number)->instance_id;
        return true;
    }
    if (t->next == ENTRIES_MAX)
        return false;
    size_t room = t->chunk_count ? FIRST_CHUNK + (size_t)(t->chunk_count - 1) * CHUNK : 0;
    if (t->next == room) {
        struct lm_entry **more = realloc(t->chunks, (t->chunk_count + 1) * sizeof *more);
        if (!more)
            return false;
        t->chunks = more;
        size_t size = (t->chunk_count ? CHUNK : FIRST_CHUNK) * sizeof **more;
        if (!(t->chunks[t->chunk_count] = room_make(size)))
            return false;
        t->chunk_count++;
    }
    *number = t->next++;
    return true;
}

struct lm_table *lm_table_new(const struct lm_key *key)
{
    struct lm_table *t = calloc(1, sizeof *t);
    if (t)
        t->key = *key;
    return t;
}

void lm_table_free(struct lm_table *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->chunk_count; i++)
        free(t->chunks[i]);
    lm_lengths_free(&t->spaces);
    free(t->chunks);
    free(t->now.at);
    free(t->old.at);
    free(t);
}

size_t lm_table_count(const struct lm_table *t)
{
    return t->live;
}

struct lm_entry *lm_table_find(const struct lm_table *t, const struct lm_prefix *p)
{
    struct lm_addr masked = p->address;
    lm_address_mask(&masked, p->length);
    uint64_t hash = hash_prefix(t, p->instance_id, &masked, p->length);
    struct slot *slot = find(t, hash, p->instance_id, &masked, p->length);
    return slot ? entry_at(t, slot->index - 1) : NULL;
}

struct lm_entry *lm_table_insert(struct lm_table *t, const struct lm_prefix *p)
{
    struct lm_entry *there = lm_table_find(t, p);
    if (there)
        return there;
    move_some(t, MOVES_PER_UPDATE);
    struct lm_lengths *lengths = lm_lengths_make(&t->spaces, &t->key, p->instance_id, p->address.family);
    uint32_t number;
    if (!lengths || !make_room(t) || !entry_make(t, &number))
        return NULL;
    struct lm_entry *e = entry_at(t, number);
    *e = (struct lm_entry){.instance_id = p->instance_id, .length = p->length, .address = p->address};
    lm_address_mask(&e->address, p->length);
    slot_put(&t->now, hash_prefix(t, e->instance_id, &e->address, e->length), number + 1);
    lm_lengths_change(lengths, e->length, 1);
    t->live++;
    return e;
}

bool lm_table_remove(struct lm_table *t, const struct lm_prefix *p)
{
    struct lm_addr masked = p->address;
    lm_address_mask(&masked, p->length);
    struct slot *slot = find(t, hash_prefix(t, p->instance_id, &masked, p->length), p->instance_id, &masked, p->length);
    if (!slot)
        return false;
    uint32_t index = slot->index;
    slot->index = TOMBSTONE;
    struct lm_entry *e = entry_at(t, index - 1);
    lm_lengths_change(lm_lengths_find(&t->spaces, &t->key, e->instance_id, e->address.family), e->length, -1);
    *e = (struct lm_entry){.instance_id = t->free_head};
    t->free_head = index;
    t->live--;
    move_some(t, MOVES_PER_UPDATE);
    return true;
}

struct lm_entry *lm_table_lookup(const struct lm_table *t, uint32_t iid, const struct lm_addr *address)
{
    const struct lm_lengths *lengths = lm_lengths_find(&t->spaces, &t->key, iid, address->family);
    struct lm_addr masked = *address;
    unsigned length = 129;
    while (lengths && lm_lengths_next(lengths, &length)) {
        lm_address_mask(&masked, length); /* from long to short: a masked address can be masked further */
        struct slot *slot = find(t, hash_prefix(t, iid, &masked, length), iid, &masked, length);
        if (slot)
            return entry_at(t, slot->index - 1);
    }
    return NULL;
}

/* The state of one of many lookups: the prefix length that it tries now. */
struct probe {
    struct lm_query *query;
    const struct lm_lengths *lengths;
    struct lm_addr masked;
    unsigned length;
    uint64_t hash;
};

static void ask_slot(const struct lm_table *t, const struct probe *p)
{
    __builtin_prefetch(&t->now.at[(uint32_t)(p->hash >> 32) & (t->now.size - 1)]);
    if (t->old.size)
        __builtin_prefetch(&t->old.at[(uint32_t)(p->hash >> 32) & (t->old.size - 1)]);
}

static void ask_entry(const struct lm_table *t, const struct slots *s, const struct probe *p)
{
    uint32_t mask = s->size - 1;
    if (s->size == 0)
        return;
    for (uint32_t i = (uint32_t)(p->hash >> 32) & mask; s->at[i].index != EMPTY; i = (i + 1) & mask)
        if (s->at[i].index != TOMBSTONE && s->at[i].tag == (uint8_t)p->hash) {
            __builtin_prefetch(entry_at(t, s->at[i].index - 1));
            return; /* may be another entry with the same 8 bits of the hash */
        }
}

void lm_table_lookup_many(const struct lm_table *t, struct lm_query *queries, size_t count)
{
    struct probe probes[LM_QUERIES_MAX];
    size_t active = 0;
    for (size_t i = 0; i < count; i++) {
        struct lm_query *q = &queries[i];
        q->entry = NULL;
        const struct lm_lengths *lengths = lm_lengths_find(&t->spaces, &t->key, q->instance_id, q->address->family);
        probes[active] = (struct probe){q, lengths, *q->address, 129, 0};
        active += lengths != NULL;
    }
    while (active) {
        size_t asking = 0, left = 0;
        for (size_t i = 0; i < active; i++) {
            struct probe *p = &probes[i];
            if (!lm_lengths_next(p->lengths, &p->length))
                continue;
            lm_address_mask(&p->masked, p->length);
            p->hash = hash_prefix(t, p->query->instance_id, &p->masked, p->length);
            ask_slot(t, p);
            probes[asking++] = *p;
        }
        for (size_t i = 0; i < asking; i++) {
            ask_entry(t, &t->now, &probes[i]);
            ask_entry(t, &t->old, &probes[i]);
        }
        for (size_t i = 0; i < asking; i++) {
            const struct probe *p = &probes[i];
            struct slot *slot = find(t, p->hash, p->query->instance_id, &p->masked, p->length);
            if (slot)
                p->query->entry = entry_at(t, slot->index - 1);
            else
                probes[left++] = *p;
        }
        active = left;
    }
}

bool lm_table_settle(struct lm_table *t)
{
    move_some(t, MOVES_TO_SETTLE);
    return t->old.size != 0;
}

uint32_t lm_table_number(const struct lm_table *t, const struct lm_entry *entry)
{
    uint32_t first = 0, size = FIRST_CHUNK;
    for (uint32_t i = 0; i < t->chunk_count; i++, first += size, size = CHUNK) {
        size = i ? CHUNK : FIRST_CHUNK;
        if (entry >= t->chunks[i] && entry < t->chunks[i] + size)
            return first + (uint32_t)(entry - t->chunks[i]);
    }
    return UINT32_MAX;
}

size_t lm_table_memory(const struct lm_table *t)
{
    size_t entries = t->chunk_count ? FIRST_CHUNK + (size_t)(t->chunk_count - 1) * CHUNK : 0;
    return sizeof *t + entries * sizeof(struct lm_entry) + t->chunk_count * sizeof *t->chunks +
           ((size_t)t->now.size + t->old.size) * sizeof(struct slot) + lm_lengths_memory(&t->spaces);
}

bool lm_table_has_instance(const struct lm_table *t, uint32_t iid)
{
    for (uint8_t family = 4; family <= 6; family = (uint8_t)(family + 2)) {
        const struct lm_lengths *lengths = lm_lengths_find(&t->spaces, &t->key, iid, family);
        if (lengths && (lengths->bitmap[0] | lengths->bitmap[1] | lengths->bitmap[2]))
            return true;
    }
    return false;
}

struct lm_entry *lm_table_next(const struct lm_table *t, uint32_t *cursor)
{
    while (*cursor < t->next) {
        struct lm_entry *e = entry_at(t, (*cursor)++);
        if (e->address.family)
            return e;
    }
    return NULL;
}

struct lm_table *lm_table_of(const struct lm_key *key, const struct lm_prefix *prefixes, size_t count)
{
    struct lm_table *made = lm_table_new(key);
    for (size_t i = 0; made && i < count; i++)
        if (!lm_table_insert(made, &prefixes[i])) {
            lm_table_free(made);
            return NULL;
        }
    return made;
}
