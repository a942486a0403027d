/* Threads that take counters of one session as fast as they can: each counter is to be taken once. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "seal/session.h"

#define TAKES 1000000u
#define RUN_MAX 8u
#define ROOM ((size_t)LM_SEAL_THREADS * TAKES * RUN_MAX)

static struct lm_session session;
static uint64_t first[LM_SEAL_THREADS][TAKES];
static uint8_t taken[ROOM];
static atomic_uint ready;

static uint64_t run_of(unsigned thread, unsigned i)
{
    return 1 + (i + thread) % RUN_MAX;
}

/* Does nothing else, so that the threads meet often. */
static void *take(void *number)
{
    unsigned thread = (unsigned)(size_t)number;
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&ready) < LM_SEAL_THREADS)
        ;
    for (unsigned i = 0; i < TAKES; i++)
        if (!lm_session_take(&session, run_of(thread, i), &first[thread][i]))
            return number;
    return NULL;
}

int main(void)
{
    pthread_t threads[LM_SEAL_THREADS];
    size_t count = 0, twice = 0;
    for (size_t i = 0; i < LM_SEAL_THREADS; i++)
        if (pthread_create(&threads[i], NULL, take, (void *)i))
            return 2;
    for (size_t i = 0; i < LM_SEAL_THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    for (unsigned thread = 0; thread < LM_SEAL_THREADS; thread++)
        for (unsigned i = 0; i < TAKES; i++)
            for (uint64_t at = first[thread][i], end = at + run_of(thread, i); at < end && at < ROOM; at++, count++)
                twice += taken[at]++ != 0;
    printf("taken=%zu\ntwice=%zu\nnext=%zu\n", count, twice, (size_t)session.sent);
    return 0;
}
