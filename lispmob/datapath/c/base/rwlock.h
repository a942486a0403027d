/*
 * A reader/writer lock that cannot starve the writer: readers that arrive while a writer waits queue behind it. POSIX
 * does not guarantee that for pthread_rwlock_t: glibc has it as an option, and in musl readers overtake a writer. A
 * thread may hold it for reading only once.
 */
#ifndef LM_RWLOCK_H
#define LM_RWLOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct lm_lock {
    pthread_rwlock_t shared;
    pthread_mutex_t gate; /* held by a writer, or while it waits */
    atomic_uint waiting;  /* writers at the gate; while there is none, reading costs one operation */
};

static inline bool lm_lock_init(struct lm_lock *l)
{
    atomic_init(&l->waiting, 0);
    return !pthread_rwlock_init(&l->shared, NULL) && !pthread_mutex_init(&l->gate, NULL);
}

static inline void lm_lock_destroy(struct lm_lock *l)
{
    pthread_rwlock_destroy(&l->shared);
    pthread_mutex_destroy(&l->gate);
}

static inline void lm_share(struct lm_lock *l)
{
    if (atomic_load(&l->waiting)) {
        pthread_mutex_lock(&l->gate);
        pthread_mutex_unlock(&l->gate);
    }
    pthread_rwlock_rdlock(&l->shared);
}

static inline void lm_unshare(struct lm_lock *l)
{
    pthread_rwlock_unlock(&l->shared);
}

static inline void lm_take(struct lm_lock *l)
{
    atomic_fetch_add(&l->waiting, 1);
    pthread_mutex_lock(&l->gate);
    pthread_rwlock_wrlock(&l->shared);
}

static inline void lm_give_back(struct lm_lock *l)
{
    pthread_rwlock_unlock(&l->shared);
    atomic_fetch_sub(&l->waiting, 1);
    pthread_mutex_unlock(&l->gate);
}

#endif
