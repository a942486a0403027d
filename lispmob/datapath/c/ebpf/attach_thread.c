#include "ebpf/attach_thread.h"
#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "table/uplink.h"

#define ATTACH_AFTER_NS UINT64_C(50000000)   /* ours: by then the Map-Registers are sent, and the routes are set */
#define DETACH_AFTER_NS UINT64_C(2000000000) /* ours: an interface often comes back at once, with another address */
#define NEVER UINT64_MAX

struct lm_attach_thread {
    struct lm_bpf_object *tier;
    pthread_t thread;
    pthread_mutex_t lock; /* protects all that follows */
    pthread_cond_t changed, attached;
    int wanted[LM_PATHS_MAX];
    size_t count;
    uint64_t attach_at, detach_at;
    bool is_attaching, is_ending;
};

static void wait_until(struct lm_attach_thread *a, uint64_t at)
{
    struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
    if (at == NEVER)
        (void)pthread_cond_wait(&a->changed, &a->lock);
    else
        (void)pthread_cond_timedwait(&a->changed, &a->lock, &until);
}

static void *run(void *argument)
{
    struct lm_attach_thread *a = argument;
    pthread_mutex_lock(&a->lock);
    while (!a->is_ending) {
        uint64_t due = a->attach_at < a->detach_at ? a->attach_at : a->detach_at;
        if (due == NEVER || lm_clock_now() < due) {
            wait_until(a, due);
            continue;
        }
        a->is_attaching = due == a->attach_at;
        *(a->is_attaching ? &a->attach_at : &a->detach_at) = NEVER;
        int wanted[LM_PATHS_MAX];
        size_t count = a->count;
        memcpy(wanted, a->wanted, sizeof wanted);
        pthread_mutex_unlock(&a->lock);
        /* If attaching fails (the interface is being removed), the tun tier receives. */
        bool has_others = false;
        if (a->is_attaching) {
            (void)lm_bpf_object_attach_uplinks(a->tier, wanted, count);
            has_others = lm_bpf_object_has_others(a->tier, wanted, count);
        } else {
            lm_bpf_object_detach_others(a->tier, wanted, count);
        }
        pthread_mutex_lock(&a->lock);
        if (has_others && a->attach_at == NEVER)
            a->detach_at = lm_clock_now() + DETACH_AFTER_NS;
        a->is_attaching = false;
        pthread_cond_broadcast(&a->attached);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

static bool start_thread(struct lm_attach_thread *a)
{
    sigset_t all, before; /* signals belong to Python */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_started = !pthread_create(&a->thread, NULL, run, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

static void release(struct lm_attach_thread *a)
{
    pthread_cond_destroy(&a->attached);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

struct lm_attach_thread *lm_attach_thread_start(struct lm_bpf_object *tier)
{
    struct lm_attach_thread *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->tier = tier;
    a->attach_at = a->detach_at = NEVER;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, &monotonic);
    pthread_cond_init(&a->attached, NULL);
    pthread_condattr_destroy(&monotonic);
    if (start_thread(a))
        return a;
    release(a);
    return NULL;
}

void lm_attach_thread_want(struct lm_attach_thread *a, const int *ifindexes, size_t count)
{
    pthread_mutex_lock(&a->lock);
    a->count = count < LM_PATHS_MAX ? count : LM_PATHS_MAX;
    memcpy(a->wanted, ifindexes, a->count * sizeof *ifindexes);
    a->attach_at = lm_clock_now() + ATTACH_AFTER_NS;
    a->detach_at = NEVER; /* set again once they are attached */
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

void lm_attach_thread_settle(struct lm_attach_thread *a)
{
    pthread_mutex_lock(&a->lock);
    while (a->attach_at != NEVER || a->is_attaching)
        (void)pthread_cond_wait(&a->attached, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

void lm_attach_thread_stop(struct lm_attach_thread *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->is_ending = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    release(a);
}
