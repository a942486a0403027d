#include "engine/pending.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct key {
    uint32_t instance_id;
    struct lm_addr eid;
    uint64_t asked_at; /* 0: free */
    size_t packets;
};

struct node {
    struct node *next;
    uint32_t key;
    uint32_t length;
    int lane;
    lm_vnet vnet;
    uint64_t born;
};

/* Oldest first. */
struct queue {
    struct node *first, **last;
    atomic_size_t count; /* read without the lock: whether there are any */
};

struct lm_pending {
    pthread_mutex_t lock; /* the outbound thread adds and takes, an RTR's inbound thread adds */
    size_t total, per_key;
    uint64_t age_ns;
    lm_pending_lost *lost;
    void *context;
    struct key *keys; /* as many keys as packets: a key without packets is replaced first */
    struct node *nodes, *unused;
    struct queue waiting, released;
    uint8_t *room; /* pages cost nothing until they are used, so every node has room for the largest packet */
};

static uint8_t *packet_of(const struct lm_pending *p, const struct node *n)
{
    return p->room + (size_t)(n - p->nodes) * (LM_PACKET_MAX + 1);
}

static void push(struct queue *q, struct node *n)
{
    n->next = NULL;
    *q->last = n;
    q->last = &n->next;
    atomic_fetch_add_explicit(&q->count, 1, memory_order_relaxed);
}

/* Removes the node that `link` points at from the queue. */
static struct node *cut(struct queue *q, struct node **link)
{
    struct node *n = *link;
    *link = n->next;
    if (q->last == &n->next)
        q->last = link;
    atomic_fetch_sub_explicit(&q->count, 1, memory_order_relaxed);
    return n;
}

static void give_back(struct lm_pending *p, struct node *n)
{
    n->next = p->unused;
    p->unused = n;
}

struct lm_pending *lm_pending_new(size_t total, size_t per_key, uint64_t age_ns, lm_pending_lost *lost, void *context)
{
    struct lm_pending *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (struct lm_pending){.total = total ? total : 1, .age_ns = age_ns, .lost = lost, .context = context};
    pthread_mutex_init(&p->lock, NULL);
    p->per_key = per_key ? per_key : p->total;
    p->waiting.last = &p->waiting.first;
    p->released.last = &p->released.first;
    p->keys = calloc(p->total, sizeof *p->keys);
    p->nodes = calloc(p->total, sizeof *p->nodes);
    size_t size = p->total * (LM_PACKET_MAX + 1);
    void *room = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    p->room = room == MAP_FAILED ? NULL : room;
    if (!p->keys || !p->nodes || !p->room) {
        lm_pending_free(p);
        return NULL;
    }
    (void)madvise(room, size, MADV_NOHUGEPAGE);
    for (size_t i = p->total; i-- > 0;)
        give_back(p, &p->nodes[i]);
    return p;
}

void lm_pending_free(struct lm_pending *p)
{
    if (!p)
        return;
    if (p->room)
        munmap(p->room, p->total * (LM_PACKET_MAX + 1));
    pthread_mutex_destroy(&p->lock);
    free(p->keys);
    free(p->nodes);
    free(p);
}

size_t lm_pending_count(const struct lm_pending *p)
{
    return atomic_load_explicit(&p->waiting.count, memory_order_relaxed);
}

static void lose(struct lm_pending *p, struct node **link, bool is_aged)
{
    struct node *n = cut(&p->waiting, link);
    p->keys[n->key].packets--;
    give_back(p, n);
    if (p->lost)
        p->lost(p->context, is_aged);
}

static void lose_aged(struct lm_pending *p, uint64_t now)
{
    while (p->waiting.first && now - p->waiting.first->born > p->age_ns)
        lose(p, &p->waiting.first, true);
}

static void lose_oldest_of(struct lm_pending *p, uint32_t key)
{
    for (struct node **link = &p->waiting.first; *link; link = &(*link)->next)
        if ((*link)->key == key) {
            lose(p, link, false);
            return;
        }
}

static uint32_t key_of(struct lm_pending *p, uint32_t instance_id, const struct lm_addr *eid)
{
    uint32_t spare = 0;
    bool has_spare = false;
    for (uint32_t i = 0; i < p->total; i++) {
        struct key *k = &p->keys[i];
        if (k->asked_at && k->instance_id == instance_id && lm_addr_equal(&k->eid, eid))
            return i;
        /* The best place for a new key: a free one, else the key asked for longest ago that holds no packet. */
        if (k->packets == 0 && (!has_spare || k->asked_at < p->keys[spare].asked_at)) {
            spare = i;
            has_spare = true;
        }
    }
    if (!has_spare) { /* every key holds a packet, so the queue is full: drops the oldest packet, and its key */
        spare = p->waiting.first->key;
        while (p->keys[spare].packets)
            lose_oldest_of(p, spare);
    }
    p->keys[spare] = (struct key){.instance_id = instance_id, .eid = *eid};
    return spare;
}

static enum lm_pending_add add(struct lm_pending *p, uint32_t instance_id, const struct lm_addr *eid,
                               const lm_vnet *vnet, const uint8_t *packet, size_t length, int lane, uint64_t born,
                               uint64_t now)
{
    lose_aged(p, now);
    uint32_t number = key_of(p, instance_id, eid);
    struct key *k = &p->keys[number];
    enum lm_pending_add verdict = LM_PENDING_KEPT;
    if (k->asked_at == 0 || now - k->asked_at > p->age_ns) {
        k->asked_at = now ? now : 1;
        verdict = LM_PENDING_FIRST;
    }
    if (k->packets >= p->per_key)
        lose_oldest_of(p, number);
    else if (!p->unused && p->waiting.first)
        lose(p, &p->waiting.first, false);
    struct node *n = p->unused;
    if (!n || length > LM_PACKET_MAX) { /* all nodes are being taken: drops the packet itself */
        if (p->lost)
            p->lost(p->context, false);
        return verdict;
    }
    p->unused = n->next;
    n->key = number;
    n->length = (uint32_t)length;
    n->lane = lane;
    n->born = born;
    n->vnet = *vnet;
    memcpy(packet_of(p, n), packet, length);
    push(&p->waiting, n);
    k->packets++;
    return verdict;
}

enum lm_pending_add lm_pending_add(struct lm_pending *p, uint32_t instance_id, const struct lm_addr *eid,
                                   const lm_vnet *vnet, const uint8_t *packet, size_t length, int lane, uint64_t born,
                                   uint64_t now)
{
    pthread_mutex_lock(&p->lock);
    enum lm_pending_add verdict = add(p, instance_id, eid, vnet, packet, length, lane, born, now);
    pthread_mutex_unlock(&p->lock);
    return verdict;
}

void lm_pending_release(struct lm_pending *p, const struct lm_prefix *prefix)
{
    pthread_mutex_lock(&p->lock);
    for (struct node **link = &p->waiting.first; *link;) {
        const struct key *k = &p->keys[(*link)->key];
        if (prefix &&
            (k->instance_id != prefix->instance_id || !lm_address_in(&k->eid, &prefix->address, prefix->length)))
            link = &(*link)->next;
        else
            push(&p->released, cut(&p->waiting, link));
    }
    for (size_t i = 0; i < p->total; i++) {
        struct key *k = &p->keys[i];
        if (!prefix ||
            (k->instance_id == prefix->instance_id && lm_address_in(&k->eid, &prefix->address, prefix->length)))
            *k = (struct key){0};
    }
    pthread_mutex_unlock(&p->lock);
}

static size_t take(struct lm_pending *p, lm_vnet *vnet, uint8_t *into, int *lane, uint64_t *born, uint64_t now)
{
    while (p->released.first) {
        struct node *n = cut(&p->released, &p->released.first);
        size_t length = n->length;
        bool is_aged = now - n->born > p->age_ns;
        if (!is_aged) {
            memcpy(into, packet_of(p, n), length);
            *lane = n->lane;
            *born = n->born;
            *vnet = n->vnet;
        }
        give_back(p, n);
        if (!is_aged)
            return length;
        if (p->lost)
            p->lost(p->context, true);
    }
    return 0;
}

size_t lm_pending_take(struct lm_pending *p, lm_vnet *vnet, uint8_t *into, int *lane, uint64_t *born, uint64_t now)
{
    pthread_mutex_lock(&p->lock);
    size_t length = take(p, vnet, into, lane, born, now);
    pthread_mutex_unlock(&p->lock);
    return length;
}
