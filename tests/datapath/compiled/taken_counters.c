/* Threads that take counters of one session as fast as they can: each counter is to be taken once. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "seal/session.h"

#define TAKES 400000u
#define RUN_MAX 8u
#define ROOM ((size_t)LM_SEAL_THREADS * TAKES * RUN_MAX)

static struct lm_session session;
static atomic_uchar taken[ROOM];
static atomic_size_t twice, count;
static atomic_uint ready;

static void *take(void *thread)
{
    unsigned number = (unsigned)(size_t)thread;
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&ready) < LM_SEAL_THREADS)
        ;
    for (unsigned i = 0; i < TAKES; i++) {
        uint64_t first, run = 1 + (i + number) % RUN_MAX;
        if (!lm_session_take(&session, run, &first))
            return NULL;
        for (uint64_t at = first; at < first + run && at < ROOM; at++)
            atomic_fetch_add(&twice, atomic_fetch_add(&taken[at], 1) != 0);
        atomic_fetch_add(&count, run);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[LM_SEAL_THREADS];
    for (size_t i = 0; i < LM_SEAL_THREADS; i++)
        if (pthread_create(&threads[i], NULL, take, (void *)i))
            return 2;
    for (size_t i = 0; i < LM_SEAL_THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    printf("taken=%zu\ntwice=%zu\nnext=%zu\n", atomic_load(&count), atomic_load(&twice), (size_t)session.sent);
    return 0;
}
