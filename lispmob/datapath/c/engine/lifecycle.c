/* Creates, opens, starts, stops and frees an engine. */
#include <errno.h>
#include <linux/udp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/engine.h"

#define QUIET_PACKETS 64u /* packets since the last call: too few to need warm buffers */
#define RECEIVE_BUFFER (4 << 20)
#define HELD_TOTAL 1024u
#define HELD_PER_PATH 256u /* four batches */
#define HELD_AGE_NS 1000000000u

static void pending_lost(void *engine, bool is_aged)
{
    struct lm_engine *e = engine;
    lm_count(&e->counters, is_aged ? LM_out_pending_aged : LM_out_pending_full);
}

static void stalled_lost(void *engine, bool is_aged)
{
    struct lm_engine *e = engine;
    lm_count(&e->counters, is_aged ? LM_out_stalled_aged : LM_out_stalled_full);
}

static void held_lost(void *engine, bool is_aged)
{
    struct lm_engine *e = engine;
    lm_count(&e->counters, is_aged ? LM_out_busy_aged : LM_out_busy);
}

static void unsealed_lost(void *engine, bool is_aged)
{
    struct lm_engine *e = engine;
    (void)is_aged;
    lm_count(&e->counters, LM_out_unsealed);
}

static uint8_t *map_room(size_t size)
{
    void *room = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return NULL;
    (void)madvise(room, size, MADV_NOHUGEPAGE); /* most of a frame is never touched: small pages keep it cheap */
    return room;
}

static bool frames_make(struct lm_frames *frames)
{
    if (!(frames->room = map_room((size_t)LM_BATCH * LM_FRAME_SIZE)))
        return false;
    for (size_t i = 0; i < LM_BATCH; i++)
        frames->frame[i].packet = frames->room + i * LM_FRAME_SIZE + LM_FRAME_HEADROOM;
    return true;
}

static void give_back(uint8_t *room, size_t size)
{
    if (room)
        (void)madvise(room, size, MADV_DONTNEED); /* reads as zeros from now on, and takes no memory until used */
}

void lm_engine_rest(struct lm_engine *e)
{
    pthread_mutex_lock(&e->writer);
    uint64_t moved = atomic_load_explicit(&e->counters.value[LM_data_packets], memory_order_relaxed) +
                     atomic_load_explicit(&e->counters.value[LM_out_packets], memory_order_relaxed);
    bool is_quiet = moved - e->moved_before < QUIET_PACKETS;
    e->moved_before = moved;
    if (is_quiet && !e->is_resting) {
        lm_take(&e->lock); /* users of the buffers hold it shared */
        give_back(e->out_frames.room, (size_t)LM_BATCH * LM_FRAME_SIZE);
        give_back(e->in_frames.room, (size_t)LM_BATCH * LM_FRAME_SIZE);
        for (size_t i = 0; i < LM_SEAL_THREADS; i++)
            give_back(e->sealed[i], LM_SEALED_ROOM + LM_SEALED_NEST + LM_FRAME_SIZE);
        lm_give_back(&e->lock);
    }
    bool has_quieted = is_quiet && !e->is_resting;
    e->is_resting = is_quiet;
    pthread_mutex_unlock(&e->writer);
#ifdef __GLIBC__
    if (has_quieted)
        (void)malloc_trim(0); /* frees what was allocated for more traffic */
#else
    (void)has_quieted;
#endif
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static bool locks_make(struct lm_engine *e)
{
    return lm_lock_init(&e->lock) && !pthread_mutex_init(&e->writer, NULL) && !pthread_mutex_init(&e->heard_lock, NULL);
}

struct lm_engine *lm_engine_new(const struct lm_config *config)
{
    struct lm_engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->config = *config;
    e->shared = &e->own;
    e->last_packets = e->own_last_packets = lm_last_packet_new();
    e->key = (struct lm_key){config->key0, config->key1};
    atomic_store(&e->watch, -1);
    e->tun = e->receive[0] = e->receive[1] = e->stop = e->poll_in = e->poll_out = e->key_wake = -1;
    int punts = lm_punt_open(&e->punts, &e->counters), asking = lm_asking_open(&e->asking);
    e->table = lm_table_new(&e->key);
    e->eids = lm_table_new(&e->key);
    e->guard = lm_table_new(&e->key);
    e->instances = lm_table_new(&e->key);
    e->locators = lm_locators_new();
    e->uplinks = calloc(1, sizeof *e->uplinks);
    e->pending =
        lm_pending_new(config->pending_total, config->pending_per_entry, config->pending_age_ns, pending_lost, e);
    e->stalled = lm_pending_new(config->pending_total, 0, config->pending_age_ns, stalled_lost, e);
    e->backpressure.packets = lm_pending_new(HELD_TOTAL, HELD_PER_PATH, HELD_AGE_NS, held_lost, e);
    e->scratch = map_room(LM_FRAME_SIZE);
    e->fragment = map_room(LM_FRAME_SIZE);
    e->segment = map_room(LM_FRAME_SIZE);
    e->relayed_segment = map_room(LM_FRAME_SIZE);
    e->relayed_fragment = map_room(LM_FRAME_SIZE);
    e->peers = lm_peers_new(&e->key);
    e->dialects = lm_dialects_new(&e->key);
    e->unsealed =
        lm_pending_new(config->pending_total, config->pending_per_entry, config->pending_age_ns, unsealed_lost, e);
    bool has_sealed = e->peers && e->dialects && e->unsealed;
    for (size_t i = 0; i < LM_SEAL_THREADS; i++)
        has_sealed = (e->sealed[i] = map_room(LM_SEALED_ROOM + LM_SEALED_NEST + LM_FRAME_SIZE)) && has_sealed;
    e->relay = config->is_rtr ? lm_rtr_new() : NULL;
    e->sources = lm_sources_new();
    bool has_frames = frames_make(&e->out_frames) && frames_make(&e->in_frames);
    bool has_locks = locks_make(e);
    bool has_rooms = has_sealed && e->sources && e->scratch && e->fragment && e->segment && e->relayed_segment &&
                     e->relayed_fragment && (e->relay || !config->is_rtr);
    if (punts == 0 && asking == 0 && e->table && e->eids && e->guard && e->instances && e->locators && e->uplinks &&
        e->pending && e->stalled && e->backpressure.packets && e->last_packets && has_rooms && has_frames && has_locks)
        return e;
    lm_engine_free(e);
    return NULL;
}

static int option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) ? -errno : 0;
}

static int set_v4(int fd)
{
    int error = option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (!error) /* behind a NAT this socket sends data; its errors are read only then (too_big.c) */
        error = option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    if (!error)
        error = option(fd, IPPROTO_IP, IP_RECVTTL, 1);
    return error ? error : option(fd, IPPROTO_IP, IP_RECVTOS, 1);
}

static int set_v6(int fd)
{
    int error = option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    if (!error)
        error = option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    if (!error)
        error = option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    if (!error)
        error = option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    /* RFC 6935: LISP data may come without a checksum */
    return error ? error : option(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
}

/* Has a UDP socket deliver what the inbound thread needs to know of each datagram. */
static int set_receive(int fd, int family)
{
    if (option(fd, SOL_SOCKET, SO_SNDBUFFORCE, RECEIVE_BUFFER))
        (void)option(fd, SOL_SOCKET, SO_SNDBUF, RECEIVE_BUFFER);
    if (option(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER))
        (void)option(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
    (void)option(fd, IPPROTO_UDP, UDP_GRO,
                 1); /* runs of datagrams arrive in one piece; older kernels deliver them one by one */
    return family == AF_INET ? set_v4(fd) : set_v6(fd);
}

static int bind_to_all(int fd, int family, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (family == AF_INET)
        return bind(fd, (struct sockaddr *)&v4, sizeof v4) ? -errno : 0;
    int error = option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    return error ? error : bind(fd, (struct sockaddr *)&v6, sizeof v6) ? -errno : 0;
}

/* Returns a socket, or a negative errno. */
static int open_receive(int family, uint16_t port)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0)
        return -errno;
    int error = set_receive(fd, family);
    if (!error)
        error = bind_to_all(fd, family, port);
    if (!error)
        return fd;
    close(fd);
    return error;
}

static int watch(int poll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

void lm_engine_offload(struct lm_engine *e, bool has_vnet, bool takes_udp)
{
    e->has_vnet = has_vnet;
    e->merge.takes_udp = takes_udp;
}

int lm_engine_open(struct lm_engine *e, int tun)
{
    e->tun = tun;
    e->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->poll_out = epoll_create1(EPOLL_CLOEXEC);
    e->poll_in = epoll_create1(EPOLL_CLOEXEC);
    e->key_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->stop < 0 || e->key_wake < 0 || e->poll_out < 0 || e->poll_in < 0)
        return -errno;
    int error = watch(e->poll_out, e->stop, EPOLLIN);
    if (!error)
        error = watch(e->poll_in, e->stop, EPOLLIN);
    if (!error)
        error = watch(e->poll_out, e->key_wake, EPOLLIN | EPOLLET);
    if (!error)
        error = watch(e->poll_out, tun, EPOLLIN);
    for (int i = 0; i < 2 && !error; i++) {
        int fd = open_receive(i == 0 ? AF_INET : AF_INET6, e->config.data_port);
        if (fd == -EAFNOSUPPORT)
            continue; /* the kernel has no IPv6 */
        if (fd < 0)
            return fd;
        e->receive[i] = fd;
        error = watch(e->poll_in, fd, EPOLLIN);
    }
    return error;
}

int lm_engine_listen(struct lm_engine *e, int fd)
{
    int family = 0;
    socklen_t size = sizeof family;
    if (e->is_running || e->further_count == LM_FURTHER_MAX)
        return -ENOSPC;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size))
        return -errno;
    int error = set_receive(fd, family);
    if (!error)
        error = watch(e->poll_in, fd, EPOLLIN);
    if (!error)
        e->further[e->further_count++] = fd;
    return error;
}

/*
 * Pins the threads to the last processors that we may use, because interrupts mostly use the first. If the kernel
 * refuses, they stay unpinned.
 */
static void pin(const struct lm_engine *e)
{
    cpu_set_t allowed, only;
    pthread_t threads[] = {e->out_thread, e->in_thread};
    size_t pinned = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) < 2)
        return;
    for (size_t cpu = CPU_SETSIZE; cpu-- > 0 && pinned < 2;) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        CPU_ZERO(&only);
        CPU_SET(cpu, &only);
        (void)pthread_setaffinity_np(threads[pinned++], sizeof only, &only);
    }
}

int lm_engine_start(struct lm_engine *e)
{
    if (e->is_running)
        return -EALREADY;
    if (e->poll_out < 0) /* not open: without descriptors the threads would never notice the stop */
        return -EBADF;
    eventfd_t ignored;
    (void)eventfd_read(e->stop, &ignored);
    sigset_t all, before; /* signals are for Python: these threads get none */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&e->out_thread, NULL, lm_outbound_run, e);
    if (!error && (error = pthread_create(&e->in_thread, NULL, lm_inbound_run, e))) {
        (void)eventfd_write(e->stop, 1);
        pthread_join(e->out_thread, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    e->is_running = error == 0;
    if (e->is_running && e->config.pins_threads)
        pin(e);
    return -error;
}

void lm_engine_stop(struct lm_engine *e)
{
    if (!e->is_running)
        return;
    (void)eventfd_write(e->stop, 1);
    pthread_join(e->out_thread, NULL);
    pthread_join(e->in_thread, NULL);
    e->is_running = false;
}

void lm_engine_free(struct lm_engine *e)
{
    if (!e)
        return;
    lm_engine_stop(e);
    lm_reflect_stop(e);
    lm_uplinks_retire(e->uplinks, NULL);
    int *fds[] = {&e->receive[0], &e->receive[1], &e->stop, &e->key_wake, &e->poll_out, &e->poll_in};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close_fd(fds[i]);
    struct lm_frames *frames[] = {&e->out_frames, &e->in_frames};
    for (size_t i = 0; i < 2; i++)
        if (frames[i]->room)
            munmap(frames[i]->room, (size_t)LM_BATCH * LM_FRAME_SIZE);
    uint8_t *single[] = {e->scratch, e->fragment, e->segment, e->relayed_segment, e->relayed_fragment};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (single[i])
            munmap(single[i], LM_FRAME_SIZE);
    for (size_t i = 0; i < LM_SEAL_THREADS; i++)
        if (e->sealed[i])
            munmap(e->sealed[i], LM_SEALED_ROOM + LM_SEALED_NEST + LM_FRAME_SIZE);
    lm_peers_free(e->peers);
    lm_dialects_free(e->dialects);
    lm_pending_free(e->unsealed);
    free(e->own_last_packets);
    lm_rtr_free(e->relay);
    lm_sources_free(e->sources);
    lm_pending_free(e->pending);
    lm_pending_free(e->stalled);
    lm_pending_free(e->backpressure.packets);
    lm_table_free(e->table);
    lm_table_free(e->eids);
    lm_table_free(e->guard);
    lm_table_free(e->instances);
    lm_locators_free(e->locators);
    lm_punt_close(&e->punts);
    lm_asking_close(&e->asking);
    lm_lock_destroy(&e->lock);
    pthread_mutex_destroy(&e->writer);
    pthread_mutex_destroy(&e->heard_lock);
    free(e);
}
