#include "engine/punt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_SIZE 512u
#define OUTSIDE_SIZE 256u /* ours: places for reports about arriving packets */

/* The size of a report without its payload. */
#define HEAD offsetof(struct lm_punt, payload)

int lm_punt_open(struct lm_punt_ring *ring, struct lm_counters *counters)
{
    *ring = (struct lm_punt_ring){.wake = -1, .counters = counters};
    int error = pthread_mutex_init(&ring->lock, NULL);
    if (error)
        return -error;
    if (!(ring->slots = calloc(RING_SIZE, sizeof *ring->slots)))
        return -ENOMEM;
    ring->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return ring->wake < 0 ? -errno : 0;
}

void lm_punt_close(struct lm_punt_ring *ring)
{
    if (ring->wake >= 0)
        close(ring->wake);
    free(ring->slots);
    pthread_mutex_destroy(&ring->lock);
}

/* True for reports that other hosts can cause at any rate. The packets of this host cause the rest. */
static bool is_outside(uint8_t kind)
{
    return kind == LM_PUNT_CONTROL || kind == LM_PUNT_UNREGISTERED || kind == LM_PUNT_STATUS ||
           kind == LM_PUNT_SOURCE || kind == LM_PUNT_MTU || kind == LM_PUNT_ANNOUNCED || kind == LM_PUNT_PEER_BEHIND ||
           kind == LM_PUNT_PEER_AHEAD;
}

bool lm_punt_put(struct lm_punt_ring *ring, const struct lm_punt *head, const uint8_t *payload, size_t length)
{
    bool has_room = false;
    if (length <= LM_PUNT_PAYLOAD) {
        pthread_mutex_lock(&ring->lock);
        bool counts = is_outside(head->kind);
        if ((has_room = ring->count < RING_SIZE && !(counts && ring->outside >= OUTSIDE_SIZE))) {
            ring->outside += counts;
            struct lm_punt *slot = &ring->slots[(ring->first + ring->count) % RING_SIZE];
            memcpy(slot, head, HEAD);
            slot->length = (uint32_t)length;
            if (length)
                memcpy(slot->payload, payload, length);
            if (ring->count++ == 0)
                (void)eventfd_write(ring->wake, 1);
        }
        pthread_mutex_unlock(&ring->lock);
    }
    if (!has_room)
        lm_count(ring->counters, LM_punt_lost);
    return has_room;
}

bool lm_punt_has(struct lm_punt_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    bool has_reports = ring->count > 0;
    pthread_mutex_unlock(&ring->lock);
    return has_reports;
}

size_t lm_punt_drain(struct lm_punt_ring *ring, struct lm_punt *into, size_t most)
{
    size_t taken = 0;
    pthread_mutex_lock(&ring->lock);
    for (; taken < most && ring->count; taken++) {
        const struct lm_punt *slot = &ring->slots[ring->first];
        memcpy(&into[taken], slot, HEAD + slot->length);
        ring->first = (ring->first + 1) % RING_SIZE;
        ring->count--;
        ring->outside -= is_outside(slot->kind);
    }
    if (ring->count == 0) {
        eventfd_t ignored;
        (void)eventfd_read(ring->wake, &ignored);
        ring->first =
            0; /* starts at the first place again: few reports at a time touch few pages, so 3 MiB stay unused */
    }
    pthread_mutex_unlock(&ring->lock);
    return taken;
}
