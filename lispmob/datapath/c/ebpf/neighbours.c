#include "ebpf/neighbours.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "table/uplink.h"

#define KNOWN_MAX (2 * LM_PATHS_MAX) /* ours: the current uplinks, and as many former ones */
#define DELETED_AT_ONCE                                                                                                \
    64 /* unresolved neighbours that are deleted at once; a network scan has more, which then wait as usual */
#define NEVER UINT64_MAX

/*
 * Ours. A real neighbour on the link has answered before the first pass. A packet may be past the check of the programs
 * while the change is reported, so later passes catch late packets.
 */
static const uint64_t passes_ns[] = {10000000, 20000000, 50000000, 100000000};
#define PASSES (sizeof passes_ns / sizeof *passes_ns)

struct known {
    int ifindex;
    uint8_t family; /* AF_INET, AF_INET6, or 0: both */
    uint64_t lost_at;
    size_t pass; /* the next pass; PASSES: nothing to do */
};

struct lm_neighbours {
    int netlink;
    pthread_t thread;
    pthread_mutex_t lock; /* protects all that follows */
    pthread_cond_t changed;
    struct known known[KNOWN_MAX];
    size_t count, oldest;
    bool is_ending;
};

struct deletion {
    struct nlmsghdr head;
    struct ndmsg neighbour;
    struct rtattr attribute;
    uint8_t address[16];
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Records a neighbour in the kernel's list if it is unresolved and on the interface. */
static size_t note(struct deletion *wanted, size_t count, const struct nlmsghdr *message, int ifindex, uint8_t family)
{
    const struct ndmsg *neighbour = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWNEIGH || message->nlmsg_len < NLMSG_LENGTH(sizeof *neighbour) ||
        neighbour->ndm_ifindex != ifindex || (family && neighbour->ndm_family != family) ||
        neighbour->ndm_state != NUD_INCOMPLETE || count == DELETED_AT_ONCE)
        return count;
    size_t size = neighbour->ndm_family == AF_INET ? 4 : 16;
    size_t left = message->nlmsg_len - NLMSG_LENGTH(sizeof *neighbour);
    for (const struct rtattr *a = (const void *)((const uint8_t *)neighbour + NLMSG_ALIGN(sizeof *neighbour));
         RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type != NDA_DST || RTA_PAYLOAD(a) != size)
            continue;
        struct deletion *deletion = &wanted[count++];
        *deletion = (struct deletion){
            .head = {.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof deletion->neighbour) + RTA_LENGTH(size)),
                     .nlmsg_type = RTM_DELNEIGH,
                     .nlmsg_flags = NLM_F_REQUEST},
            .neighbour = {.ndm_family = neighbour->ndm_family, .ndm_ifindex = ifindex},
            .attribute = {.rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = NDA_DST}};
        memcpy(deletion->address, RTA_DATA(a), size);
        break;
    }
    return count;
}

/* Lists the unresolved neighbours of an interface, as deletion requests; returns their number. */
static size_t list(int netlink, int ifindex, uint8_t family, struct deletion *wanted)
{
    struct {
        struct nlmsghdr head;
        struct ndmsg all;
        struct rtattr attribute;
        uint32_t ifindex;
    } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETNEIGH, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .attribute = {.rta_len = RTA_LENGTH(4), .rta_type = NDA_IFINDEX},
        .ifindex = (uint32_t)ifindex};
    static _Thread_local union {
        struct nlmsghdr align;
        uint8_t room[32768];
    } buffer;
    size_t count = 0;
    if (send(netlink, &request, sizeof request, 0) < 0)
        return 0;
    for (;;) {
        ssize_t n = recv(netlink, buffer.room, sizeof buffer, 0);
        if (n <= 0)
            return count;
        size_t left = (size_t)n;
        for (struct nlmsghdr *m = &buffer.align; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR)
                return count;
            count = note(wanted, count, m, ifindex, family);
        }
    }
}

static void delete_unresolved(int netlink, int ifindex, uint8_t family)
{
    struct deletion wanted[DELETED_AT_ONCE];
    size_t count = list(netlink, ifindex, family, wanted);
    for (size_t i = 0; i < count; i++) /* a neighbour that was resolved or removed meanwhile is no error */
        (void)send(netlink, &wanted[i], wanted[i].head.nlmsg_len, 0);
    uint8_t refusals[4096];
    while (count && recv(netlink, refusals, sizeof refusals, MSG_DONTWAIT) > 0)
        ;
}

static uint64_t due_at(const struct known *uplink)
{
    return uplink->pass < PASSES ? uplink->lost_at + passes_ns[uplink->pass] : NEVER;
}

static struct known *next_due(struct lm_neighbours *n)
{
    struct known *first = NULL;
    for (size_t i = 0; i < n->count; i++)
        if (due_at(&n->known[i]) != NEVER && (!first || due_at(&n->known[i]) < due_at(first)))
            first = &n->known[i];
    return first;
}

static void *run(void *argument)
{
    struct lm_neighbours *n = argument;
    pthread_mutex_lock(&n->lock);
    while (!n->is_ending) {
        struct known *uplink = next_due(n);
        if (!uplink) {
            (void)pthread_cond_wait(&n->changed, &n->lock);
            continue;
        }
        uint64_t at = due_at(uplink);
        if (clock_ns() < at) {
            struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
            (void)pthread_cond_timedwait(&n->changed, &n->lock, &until);
            continue;
        }
        int ifindex = uplink->ifindex;
        uint8_t family = uplink->family;
        uplink->pass++;
        pthread_mutex_unlock(&n->lock);
        delete_unresolved(n->netlink, ifindex, family);
        pthread_mutex_lock(&n->lock);
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

static bool start_thread(struct lm_neighbours *n)
{
    sigset_t all, before; /* signals belong to Python */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_started = !pthread_create(&n->thread, NULL, run, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

static void release(struct lm_neighbours *n)
{
    close(n->netlink);
    pthread_cond_destroy(&n->changed);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

struct lm_neighbours *lm_neighbours_start(void)
{
    static const struct timeval patience = {.tv_sec = 1}; /* a bound: the kernel answers at once */
    struct lm_neighbours *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (n->netlink < 0) {
        free(n);
        return NULL;
    }
    (void)setsockopt(n->netlink, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (start_thread(n))
        return n;
    release(n);
    return NULL;
}

void lm_neighbours_know(struct lm_neighbours *n, const int *ifindexes, size_t count)
{
    if (!n)
        return;
    pthread_mutex_lock(&n->lock);
    for (size_t i = 0; i < count; i++) {
        bool is_known = false;
        for (size_t k = 0; k < n->count; k++)
            is_known = is_known || n->known[k].ifindex == ifindexes[i];
        if (is_known)
            continue;
        size_t place = n->count < KNOWN_MAX ? n->count++ : n->oldest++ % KNOWN_MAX;
        n->known[place] = (struct known){.ifindex = ifindexes[i], .pass = PASSES};
    }
    pthread_mutex_unlock(&n->lock);
}

void lm_neighbours_lost(struct lm_neighbours *n, int ifindex, uint8_t family)
{
    if (!n)
        return;
    uint64_t now = clock_ns();
    pthread_mutex_lock(&n->lock);
    for (size_t i = 0; i < n->count; i++) {
        if (ifindex != 0 && n->known[i].ifindex != ifindex)
            continue;
        bool is_pending = n->known[i].pass < PASSES;
        n->known[i].family = is_pending && n->known[i].family != family ? 0 : family;
        n->known[i].lost_at = now;
        n->known[i].pass = 0;
    }
    pthread_cond_signal(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

void lm_neighbours_stop(struct lm_neighbours *n)
{
    if (!n)
        return;
    pthread_mutex_lock(&n->lock);
    n->is_ending = true;
    pthread_cond_signal(&n->changed);
    pthread_mutex_unlock(&n->lock);
    pthread_join(n->thread, NULL);
    release(n);
}
