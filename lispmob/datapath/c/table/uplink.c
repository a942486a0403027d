#include "table/uplink.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "table/cable.h"

#define PORT_FIRST 49152u /* the dynamic ports (RFC 6335): 49152 to 65535 */
#define PORT_COUNT 16384u
#define PORT_TRIES 64
#define SEND_BUFFER (4 << 20)
#define V6_MTU_MIN 1280 /* RFC 8200 section 5 */

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) ? -errno : 0;
}

static int bind_random_port(int fd, const struct lm_addr *address, int ifindex)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    memcpy(&v4.sin_addr, address->octets, 4);
    memcpy(&v6.sin6_addr, address->octets, 16);
    if (lm_address_is_link_local(address))
        v6.sin6_scope_id = (uint32_t)ifindex;
    for (int i = 0; i < PORT_TRIES; i++) {
        uint16_t drawn;
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
            return -errno;
        v4.sin_port = v6.sin6_port = htons((uint16_t)(PORT_FIRST + drawn % PORT_COUNT));
        int failed = address->family == 4 ? bind(fd, (struct sockaddr *)&v4, sizeof v4)
                                          : bind(fd, (struct sockaddr *)&v6, sizeof v6);
        if (!failed)
            return 0;
        if (errno != EADDRINUSE)
            return -errno;
    }
    return -EADDRINUSE;
}

static int tune_v4(int fd, const struct lm_uplink_options *options, bool sets_df)
{
    int error = set(fd, IPPROTO_IP, IP_MTU_DISCOVER, sets_df ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT);
    if (!error)
        error = set(fd, IPPROTO_IP, IP_RECVERR, 1);
    if (!error && !options->udp_checksum)
        error = set(fd, SOL_SOCKET, SO_NO_CHECK, 1);
    return error;
}

static int tune_v6(int fd, const struct lm_uplink_options *options, bool sets_df)
{
    int error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (!error)
        error = set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, sets_df ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_OMIT);
    if (!error) /* routers do not fragment IPv6: fragments are made here, so that every path takes them */
        error = sets_df ? set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1) : set(fd, IPPROTO_IPV6, IPV6_MTU, V6_MTU_MIN);
    if (!error)
        error = set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if (!error && !options->udp_checksum)
        error = set(fd, IPPROTO_UDP, UDP_NO_CHECK6_TX, 1);
    return error;
}

/*
 * These sockets receive only errors, which no filter sees. Packets that others send to their ports must not fill the
 * buffer.
 */
static struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
static const struct sock_fprog no_data = {.len = 1, .filter = &drop_all};

/* Returns a socket, or a negative errno. */
static int open_socket(const struct lm_uplink_spec *spec, const struct lm_uplink_options *options, bool sets_df)
{
    bool is_v4 = spec->address.family == 4;
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0)
        return -errno;
    int error = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, spec->interface, (socklen_t)strlen(spec->interface)))
        error = -errno;
    if (!error)
        error = (is_v4 ? tune_v4 : tune_v6)(fd, options, sets_df);
    if (!error && options->mark)
        error = set(fd, SOL_SOCKET, SO_MARK, (int)options->mark);
    if (!error && set(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER))
        (void)set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER); /* without CAP_NET_ADMIN: as much as the system allows */
    if (!error && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &no_data, sizeof no_data))
        error = -errno;
    if (!error)
        error = bind_random_port(fd, &spec->address, spec->ifindex);
    if (!error)
        return fd;
    close(fd);
    return error;
}

static int open_path(struct lm_path *path, const struct lm_uplink_spec *spec, const struct lm_uplink_options *options)
{
    path->pool = options->pool < 1 ? 1 : options->pool > LM_POOL_MAX ? LM_POOL_MAX : options->pool;
    for (size_t i = 0; i <= path->pool; i++) {
        path->sockets[i] = open_socket(spec, options, i < path->pool);
        if (path->sockets[i] >= 0)
            continue;
        int error = path->sockets[i];
        while (i-- > 0)
            close(path->sockets[i]);
        return error;
    }
    path->is_whole = lm_cable_is_whole(path->sockets[0], spec->interface);
    return 0;
}

/* Opens the socket for all data of a path, sent and received. Its port is never 4341. */
static int open_data_socket(const struct lm_uplink_spec *spec, const struct lm_uplink_options *options)
{
    struct lm_uplink_options checksummed = *options;
    checksummed.udp_checksum = true; /* some NATs drop UDP without one */
    int fd = open_socket(spec, &checksummed, true);
    if (fd < 0)
        return fd;
    int error = setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &error, sizeof error) ? -errno : 0;
    bool is_v4 = spec->address.family == 4;
    if (!error)
        error = set(fd, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
    if (!error)
        error = set(fd, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_RECVTTL : IPV6_RECVHOPLIMIT, 1);
    if (!error)
        error = set(fd, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1);
    if (!error)
        return fd;
    close(fd);
    return error;
}

/* Sets up what a NAT on the path requires. An ephemeral port stays the same as long as it is wanted. */
static int set_traversal(struct lm_path *path, const struct lm_uplink_spec *spec,
                         const struct lm_uplink_options *options)
{
    bool has_ephemeral = path->data_port == LM_PORT_EPHEMERAL && path->data_fd >= 0;
    path->relays = NULL;
    path->admits_others = spec->admits_others;
    path->passes_zero = spec->passes_zero;
    path->data_port = (enum lm_data_port)spec->data_port;
    if (path->data_port == LM_PORT_EPHEMERAL) {
        int fd = has_ephemeral ? path->data_fd : open_data_socket(spec, options);
        if (fd < 0)
            return fd;
        path->data_fd = fd;
    } else {
        path->data_fd = path->data_port == LM_PORT_FIXED ? options->fixed[path->address.family == 6] : -1;
    }
    return 0;
}

/* Computes UDP checksums for all that leaves by the pool, or for none of it, unless the configuration wants them. */
static void set_sums(struct lm_path *path, bool needs_sums, const struct lm_uplink_options *options)
{
    bool is_v4 = path->address.family == 4;
    int spares = !needs_sums && !options->udp_checksum;
    for (size_t i = 0; path->needs_sums != needs_sums && i <= path->pool; i++)
        (void)set(path->sockets[i], is_v4 ? SOL_SOCKET : IPPROTO_UDP, is_v4 ? SO_NO_CHECK : UDP_NO_CHECK6_TX, spares);
    if (path->needs_sums != needs_sums)
        atomic_store(&path->sums, 0);
    path->needs_sums = needs_sums;
}

static const struct lm_path *find_path(const struct lm_uplinks *uplinks, const struct lm_uplink_spec *spec)
{
    for (size_t i = 0; uplinks && i < uplinks->path_count; i++) {
        const struct lm_path *path = &uplinks->paths[i];
        if (path->ifindex == spec->ifindex && lm_addr_equal(&path->address, &spec->address) &&
            strncmp(path->interface, spec->interface, IFNAMSIZ) == 0)
            return path;
    }
    return NULL;
}

/* Takes over the sockets and the properties of the device. */
static void keep(struct lm_path *path, const struct lm_path *kept)
{
    path->pool = kept->pool;
    path->data_port = kept->data_port;
    path->data_fd = kept->data_fd;
    path->is_whole = kept->is_whole;
    path->needs_sums = kept->needs_sums;
    atomic_store(&path->sums, atomic_load(&kept->sums));
    memcpy(path->sockets, kept->sockets, sizeof path->sockets);
    atomic_store(&path->refuses_runs, atomic_load(&kept->refuses_runs));
}

/* The identity of an uplink does not depend on its address, so its flows stay when the address changes. */
static uint64_t identity(const struct lm_path *path)
{
    uint8_t name[5] = {0};
    lm_put32(name + 1, (uint32_t)path->ifindex);
    return lm_rendezvous_identity(name, sizeof name);
}

static void enter(struct lm_uplinks *uplinks)
{
    for (size_t i = 0; i < uplinks->path_count; i++) {
        const struct lm_path *path = &uplinks->paths[i];
        const struct lm_contender contender = {identity(path), path->priority, path->weight};
        for (unsigned families = 1; families <= 3; families++) {
            bool takes_part = (lm_family_bit(path->address.family) & families) != 0;
            uplinks->contenders[families - 1][i] = contender;
            uplinks->contenders[families - 1][i].priority = takes_part ? path->priority : LM_PRIORITY_NEVER;
        }
        if (path->priority != LM_PRIORITY_NEVER)
            uplinks->families |= lm_family_bit(path->address.family);
    }
}

/*
 * Returns the MTU from a router advertisement (RFC 4861 section 4.6.4), octets. It may be smaller than the link's,
 * which our sockets use.
 */
static uint32_t advertised_mtu(const char *interface)
{
    char name[64 + IFNAMSIZ];
    unsigned long mtu = 0;
    (void)snprintf(name, sizeof name, "/proc/sys/net/ipv6/conf/%.*s/mtu", IFNAMSIZ, interface);
    FILE *file = fopen(name, "re");
    if (file && fscanf(file, "%lu", &mtu) != 1)
        mtu = 0;
    if (file)
        (void)fclose(file);
    return mtu >= V6_MTU_MIN && mtu < LM_MTU_MAX ? (uint32_t)mtu : LM_MTU_MAX;
}

static uint32_t mtu_of(const struct lm_uplink_spec *spec)
{
    uint32_t mtu = spec->mtu == 0 ? 1500 : spec->mtu < LM_MTU_MIN ? LM_MTU_MIN : spec->mtu;
    uint32_t most = spec->address.family == 6 ? advertised_mtu(spec->interface) : LM_MTU_MAX;
    return mtu > most ? most : mtu;
}

struct lm_uplinks *lm_uplinks_make(const struct lm_uplinks *current, struct lm_uplink_spec *specs, size_t count,
                                   const struct lm_uplink_options *options)
{
    struct lm_uplinks *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct lm_uplink_spec *spec = &specs[i];
        spec->error = 0;
        if (made->rloc_count < LM_UPLINK_ADDRESSES_MAX)
            made->rlocs[made->rloc_count++] = spec->address;
        if (!spec->is_sender || find_path(made, spec))
            continue;
        if (made->path_count == LM_PATHS_MAX) {
            spec->error = -E2BIG;
            continue;
        }
        struct lm_path *path = &made->paths[made->path_count];
        const struct lm_path *kept = find_path(current, spec);
        if (kept)
            keep(path, kept);
        else if ((spec->error = open_path(path, spec, options)))
            continue;
        path->ifindex = spec->ifindex;
        memcpy(path->interface, spec->interface, IFNAMSIZ);
        path->address = spec->address;
        set_sums(path, spec->needs_sums, options);
        if (!kept)
            path->data_fd = -1;
        if ((spec->error = set_traversal(path, spec, options))) {
            /* Without the port that the NAT knows, the path cannot be used. The next call tries again. */
            path->data_port = LM_PORT_POOL;
            path->data_fd = -1;
        }
        path->priority = spec->error ? LM_PRIORITY_NEVER : spec->priority;
        path->weight = spec->weight;
        path->mtu = mtu_of(spec);
        path->place = made->path_count++;
    }
    enter(made);
    return made;
}

void lm_uplinks_take_relays(struct lm_uplinks *uplinks, const struct lm_uplink_spec *specs, size_t count,
                            struct lm_locators *locators)
{
    for (size_t i = 0; i < count; i++)
        for (size_t p = 0; specs[i].is_sender && specs[i].relay_count && p < uplinks->path_count; p++) {
            struct lm_path *path = &uplinks->paths[p];
            if (path->ifindex == specs[i].ifindex && lm_addr_equal(&path->address, &specs[i].address) && !path->relays)
                path->relays = lm_locator_set_take(locators, specs[i].relays, specs[i].relay_count);
        }
}

void lm_uplinks_retire(struct lm_uplinks *gone, const struct lm_uplinks *kept)
{
    for (size_t i = 0; gone && i < gone->path_count; i++) {
        const struct lm_path *path = &gone->paths[i];
        for (size_t s = 0; s <= path->pool; s++)
            if (!kept || !lm_uplinks_has_socket(kept, path->sockets[s]))
                close(path->sockets[s]);
        if (path->data_port == LM_PORT_EPHEMERAL && (!kept || !lm_uplinks_receives(kept, path->data_fd)))
            close(path->data_fd);
    }
    free(gone);
}

/* The paths of one interface have one identity, so they draw the same number, and the interface counts once. */
int lm_uplinks_choose(const struct lm_uplinks *uplinks, unsigned families, uint64_t flow)
{
    int index = families ? lm_rendezvous_choose(uplinks->contenders[families - 1], uplinks->path_count, flow) : -1;
    return index < 0 ? 0 : uplinks->paths[index].ifindex;
}

unsigned lm_uplinks_families(const struct lm_uplinks *uplinks, int ifindex, bool counts_never)
{
    unsigned families = 0;
    for (size_t i = 0; i < uplinks->path_count; i++) {
        const struct lm_path *path = &uplinks->paths[i];
        if (path->ifindex == ifindex && (counts_never || path->priority != LM_PRIORITY_NEVER))
            families |= lm_family_bit(path->address.family);
    }
    return families;
}

const struct lm_path *lm_uplinks_path(const struct lm_uplinks *uplinks, int ifindex, uint8_t family)
{
    for (size_t i = 0; i < uplinks->path_count; i++)
        if (uplinks->paths[i].ifindex == ifindex && uplinks->paths[i].address.family == family)
            return &uplinks->paths[i];
    return NULL;
}

bool lm_uplinks_owns(const struct lm_uplinks *uplinks, const struct lm_addr *address)
{
    for (size_t i = 0; i < uplinks->rloc_count; i++)
        if (lm_addr_equal(&uplinks->rlocs[i], address))
            return true;
    return false;
}

bool lm_uplinks_same_paths(const struct lm_uplinks *a, const struct lm_uplinks *b)
{
    bool is_same = a->path_count == b->path_count;
    for (size_t i = 0; is_same && i < a->path_count; i++)
        is_same = lm_uplinks_has_socket(b, a->paths[i].sockets[0]);
    return is_same;
}

bool lm_uplinks_send_fixed(const struct lm_uplinks *uplinks, uint8_t family)
{
    for (size_t i = 0; i < uplinks->path_count; i++)
        if (uplinks->paths[i].data_port == LM_PORT_FIXED && uplinks->paths[i].address.family == family)
            return true;
    return false;
}

bool lm_uplinks_receives(const struct lm_uplinks *uplinks, int fd)
{
    for (size_t i = 0; i < uplinks->path_count; i++)
        if (uplinks->paths[i].data_port == LM_PORT_EPHEMERAL && uplinks->paths[i].data_fd == fd)
            return true;
    return false;
}

bool lm_uplinks_has_socket(const struct lm_uplinks *uplinks, int fd)
{
    for (size_t i = 0; i < uplinks->path_count; i++)
        for (size_t s = 0; s <= uplinks->paths[i].pool; s++)
            if (uplinks->paths[i].sockets[s] == fd)
                return true;
    return false;
}

uint16_t lm_uplink_port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {.v6 = {0}};
    socklen_t size = sizeof name;
    if (fd < 0 || getsockname(fd, &name.any, &size))
        return 0;
    return ntohs(name.any.sa_family == AF_INET ? name.v4.sin_port : name.v6.sin6_port);
}
