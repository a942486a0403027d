/* Keeps the copy in the kernel equal to the tables of an engine, and reads back what the programs record. */
#include <errno.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"

#define PROGRAM_ENDS_NS 2000000 /* ours: a program takes some microseconds, and ends with a counter */

_Static_assert(LM_PATHS_MAX == LM_SHARED_PATHS && LM_LOCATORS_MAX == LM_SHARED_LOCATORS &&
                   LM_POOL_MAX == LM_SHARED_POOL && LM_LANES_MAX == LM_SHARED_LANES,
               "the programs count like us");

/* True when the path has Ethernet headers, which the programs expect. */
static bool is_ethernet(const struct lm_path *path)
{
    struct ifreq request = {0};
    memcpy(request.ifr_name, path->interface, IFNAMSIZ);
    return !ioctl(path->sockets[0], SIOCGIFHWADDR, &request) && request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
}

/* True when data leaves without an outer checksum: programs cannot request that of a super-packet. */
static bool sends_without_checksum(const struct lm_engine *e, const struct lm_path *path)
{
    bool is_relayed = path->relays && path->passes_zero && path->address.family == 4;
    return !e->config.udp_checksum && !path->needs_sums && (path->data_port == LM_PORT_POOL || is_relayed);
}

/* Returns why only the tun tier sends by a path. */
static enum lm_slow_reason reason_of(const struct lm_engine *e, const struct lm_path *path)
{
    if (!is_ethernet(path))
        return LM_SLOW_NO_ETHERNET;
    if (lm_address_is_link_local(&path->address))
        return LM_SLOW_LINK_LOCAL;
    return sends_without_checksum(e, path) ? LM_SLOW_NOT : LM_SLOW_CHECKSUM;
}

static void describe(struct lm_shared_path *out, const struct lm_engine *e, const struct lm_path *path,
                     uint64_t identity)
{
    *out = (struct lm_shared_path){.contender = {.identity = identity,
                                                 .family = path->address.family,
                                                 .priority = path->priority,
                                                 .weight = path->weight},
                                   .ifindex = (uint32_t)path->ifindex,
                                   .mtu = path->mtu,
                                   .relays = path->relays ? path->relays->number : 0,
                                   .data_port =
                                       path->data_port == LM_PORT_EPHEMERAL ? lm_uplink_port_of(path->data_fd) : 0,
                                   .is_whole = path->is_whole,
                                   .pool = (uint8_t)(path->data_fd < 0 ? path->pool : 1)};
    memcpy(out->address, path->address.octets, sizeof out->address);
    for (size_t i = 0; i < out->pool; i++)
        out->ports[i] = lm_uplink_port_of(path->data_fd < 0 ? path->sockets[i] : path->data_fd);
    out->is_ready = reason_of(e, path) == LM_SLOW_NOT;
}

static void attach(struct lm_engine *e)
{
    int wanted[LM_PATHS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < e->uplinks->path_count; i++) {
        bool is_there = !is_ethernet(&e->uplinks->paths[i]);
        for (size_t k = 0; k < count; k++)
            is_there = is_there || wanted[k] == e->uplinks->paths[i].ifindex;
        if (!is_there)
            wanted[count++] = e->uplinks->paths[i].ifindex;
    }
    lm_neighbours_know(e->neighbours, wanted, count);
    if (e->attacher)
        lm_attach_thread_want(e->attacher, wanted, count);
    else /* at the start; if attaching is refused, the tun tier receives */
        (void)lm_bpf_object_attach_uplinks(lm_mirror_tier(e->mirror), wanted, count);
}

void lm_reflect_uplinks(struct lm_engine *e, const struct lm_addr *old, size_t old_count)
{
    const struct lm_uplinks *u = e->uplinks;
    struct lm_shared_uplinks *made = e->mirror ? calloc(1, sizeof *made) : NULL;
    if (!made)
        return;
    atomic_fetch_add(&e->shared->routes, 1);
    made->families = u->families;
    made->count = (uint32_t)u->path_count;
    for (size_t i = 0; i < u->path_count; i++) {
        describe(&made->paths[i], e, &u->paths[i], u->contenders[0][i].identity);
        atomic_store(&e->shared->suspect[i], LM_SUSPECT_AT_FIRST);
    }
    for (size_t i = 0; i < u->rloc_count; i++) {
        int place = LM_SHARED_PATHS;
        for (size_t p = 0; p < u->path_count; p++)
            if (lm_addr_equal(&u->paths[p].address, &u->rlocs[i]))
                place = (int)p;
        lm_mirror_rloc(e->mirror, &u->rlocs[i], place);
    }
    for (size_t i = 0; i < old_count; i++)
        if (!lm_uplinks_owns(u, &old[i]))
            lm_mirror_rloc(e->mirror, &old[i], -1);
    lm_mirror_uplinks(e->mirror, made);
    free(made);
    lm_mirror_changed(e->mirror);
    attach(e);
}

void lm_reflect_lanes(struct lm_engine *e)
{
    struct lm_shared_state *s = e->shared;
    uint32_t count = 0;
    if (!e->mirror)
        return;
    for (size_t i = 0; i < e->lane_count; i++)
        if (e->lanes[i].ifindex > 0)
            s->lanes[count++] = (struct lm_shared_lane){
                .mark = e->lanes[i].mark, .ifindex = e->lanes[i].ifindex, .queue = e->lanes[i].queue};
    s->lane_count = count;
    lm_mirror_changed(e->mirror);
}

static void copy_state(struct lm_shared_state *into, struct lm_shared_state *from)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&into->traffic[i].last, atomic_load(&from->traffic[i].last));
        atomic_store(&into->traffic[i].is_watched, atomic_load(&from->traffic[i].is_watched));
    }
    for (int i = 0; i < LM_PATHS_MAX; i++)
        atomic_store(&into->unanswered[i], atomic_load(&from->unanswered[i]));
    atomic_store(&into->status, atomic_load(&from->status));
    atomic_store(&into->reports_large, atomic_load(&from->reports_large));
    atomic_store(&into->silence_at, atomic_load(&from->silence_at));
}

static void fill(struct lm_engine *e)
{
    uint32_t cursor = 0;
    for (struct lm_entry *entry; (entry = lm_table_next(e->table, &cursor));)
        lm_mirror_entry(e->mirror, e->table, entry);
    lm_mirror_replace(e->mirror, LM_SPACE_EIDS, NULL, e->eids);
    lm_mirror_replace(e->mirror, LM_SPACE_GUARD, NULL, e->guard);
    lm_mirror_replace(e->mirror, LM_SPACE_REFUSED, NULL, e->peers->refused);
    if (lm_source_near(e))
        lm_mirror_replace(e->mirror, LM_SPACE_NEAR, NULL, lm_source_near(e));
    lm_reflect_lanes(e);
    lm_reflect_uplinks(e, NULL, 0);
}

int lm_reflect_start(struct lm_engine *e, struct lm_bpf_object *tier, int device, uint32_t mark_mask)
{
    int error = 0;
    pthread_mutex_lock(&e->writer);
    bool is_mirrored = e->mirror != NULL;
    struct lm_mirror *mirror = is_mirrored ? NULL : lm_mirror_new(tier, device, &error);
    if (is_mirrored)
        lm_bpf_object_free(tier);
    if (mirror) {
        struct lm_shared_state *s = lm_mirror_state(mirror);
        s->key0 = e->key.k0;
        s->key1 = e->key.k1;
        s->mark = e->config.mark;
        s->mark_mask = mark_mask;
        s->data_port = e->config.data_port;
        s->copy_dscp = e->config.copy_dscp;
        s->source_check = e->config.source_check;
        s->relayed_instance_id = e->config.proxy_instance_id;
        lm_take(&e->lock); /* briefly: the threads follow these pointers */
        copy_state(s, e->shared);
        e->shared = s;
        e->last_packets = lm_mirror_last_packets(mirror);
        e->mirror = mirror;
        e->neighbours = lm_neighbours_start();
        atomic_store(&e->watch, lm_link_watch_open(e)); /* if it is refused, a move is noticed a little later */
        lm_locators_reflect(e->locators, mirror);
        lm_give_back(&e->lock);
        fill(e); /* packets move meanwhile: only the control side changes the tables */
        error = lm_mirror_error(mirror);
        if (!error)
            error = lm_bpf_object_attach_device(tier, device);
        if (!error && !(e->attacher = lm_attach_thread_start(tier)))
            error = -EAGAIN;
        if (!error)
            atomic_store(&s->is_on, 1);
    }
    pthread_mutex_unlock(&e->writer);
    if (error)
        lm_reflect_stop(e);
    return error;
}

void lm_reflect_stop(struct lm_engine *e)
{
    pthread_mutex_lock(&e->writer);
    struct lm_mirror *mirror = e->mirror;
    if (mirror) {
        static const struct timespec moment = {.tv_nsec = PROGRAM_ENDS_NS};
        struct lm_shared_counts sum = {0};
        atomic_store(&e->shared->is_on, 0);
        lm_attach_thread_stop(e->attacher);
        e->attacher = NULL;
        lm_bpf_object_detach(lm_mirror_tier(mirror));
        (void)nanosleep(&moment, NULL);
        lm_mirror_counts(mirror, &sum);
        lm_take(&e->lock);
        lm_locators_reflect(e->locators, NULL);
        copy_state(&e->own, e->shared);
        e->shared = &e->own;
        e->last_packets = e->own_last_packets;
        e->mirror = NULL;
        if (e->watch >= 0)
            close(e->watch);
        atomic_store(&e->watch, -1);
        lm_neighbours_stop(e->neighbours);
        e->neighbours = NULL;
        lm_count_many(&e->counters, LM_out_packets, sum.out_packets);
        lm_count_many(&e->counters, LM_out_octets, sum.out_octets);
        lm_count_many(&e->counters, LM_data_packets, sum.data_packets);
        lm_count_many(&e->counters, LM_data_octets, sum.data_octets);
        lm_count_many(&e->counters, LM_kernel_out_packets, sum.out_packets);
        lm_count_many(&e->counters, LM_kernel_data_packets, sum.data_packets);
        lm_count_many(&e->counters, LM_out_busy, sum.lost);
        lm_give_back(&e->lock);
        lm_mirror_free(mirror);
    }
    pthread_mutex_unlock(&e->writer);
}

int lm_reflect_state(struct lm_engine *e)
{
    pthread_mutex_lock(&e->writer);
    int error = e->mirror ? lm_mirror_error(e->mirror) : 0, is_there = e->mirror != NULL;
    pthread_mutex_unlock(&e->writer);
    return error ? error : is_there;
}

int lm_reflect_reason(struct lm_engine *e, size_t place, char interface[IFNAMSIZ], uint8_t *family)
{
    int reason = -1;
    pthread_mutex_lock(&e->writer);
    if (place < e->uplinks->path_count) {
        const struct lm_path *path = &e->uplinks->paths[place];
        memcpy(interface, path->interface, IFNAMSIZ);
        *family = path->address.family;
        reason = (int)reason_of(e, path);
    }
    pthread_mutex_unlock(&e->writer);
    return reason;
}

void lm_reflect_settle(struct lm_engine *e)
{
    pthread_mutex_lock(&e->writer);
    if (e->attacher)
        lm_attach_thread_settle(e->attacher);
    pthread_mutex_unlock(&e->writer);
}
