#include "engine/asking.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cmsg.h"
#include "engine/engine.h"

#define V4_HEADER 20u
#define V6_HEADER 40u
#define V4_SUM 10u
#define UDP_SUM 6u
#define UDP_OCTETS 8u

int lm_asking_open(struct lm_asking *asking)
{
    *asking = (struct lm_asking){0};
    int error = pthread_mutex_init(&asking->lock, NULL);
    if (error)
        return -error;
    asking->prepared = calloc(LM_ASKING_MAX, sizeof *asking->prepared);
    return asking->prepared ? 0 : -ENOMEM;
}

void lm_asking_close(struct lm_asking *asking)
{
    free(asking->prepared);
    pthread_mutex_destroy(&asking->lock);
}

static size_t header_of(uint8_t family)
{
    return family == 4 ? V4_HEADER : V6_HEADER;
}

static size_t octets_of(uint8_t family)
{
    return family == 4 ? 4 : 16;
}

/* Both EIDs lie inside the UDP payload, at even distances from its start, so that sums of 16-bit words cover them. */
static bool is_usable(const struct lm_asking_spec *spec)
{
    if ((spec->family != 4 && spec->family != 6) || spec->length > LM_ASKING_OCTETS || !spec->nonce || spec->fd < 0 ||
        spec->source.family != spec->resolver.family)
        return false;
    size_t udp = spec->inner + header_of(spec->family), octets = octets_of(spec->family);
    return spec->source_at >= udp + UDP_OCTETS && spec->source_at + 2 * octets <= spec->length &&
           (spec->source_at - udp) % 2 == 0 && (spec->length - octets - udp) % 2 == 0;
}

bool lm_asking_add(struct lm_engine *e, const struct lm_asking_spec *spec)
{
    struct lm_asking *asking = &e->asking;
    pthread_mutex_lock(&asking->lock);
    bool has_room = asking->count < LM_ASKING_MAX && is_usable(spec);
    if (has_room)
        asking->prepared[asking->count++] = *spec;
    pthread_mutex_unlock(&asking->lock);
    return has_room;
}

void lm_asking_clear(struct lm_engine *e)
{
    pthread_mutex_lock(&e->asking.lock);
    e->asking.count = 0;
    pthread_mutex_unlock(&e->asking.lock);
}

/* Writes an address where zeros are, and adds it to a checksum as often as it occurs below that (RFC 1624). */
static void fill(uint8_t *at, const struct lm_addr *address, uint8_t *sum_at, unsigned times)
{
    size_t octets = octets_of(address->family);
    uint32_t sum = (uint16_t)~lm_get16(sum_at);
    for (size_t i = 0; i < octets; i += 2)
        sum += times * lm_get16(address->octets + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    lm_put16(sum_at, (uint16_t)~sum);
    memcpy(at, address->octets, octets);
}

static void fill_in(struct lm_asking_spec *spec, const struct lm_addr *source, const struct lm_addr *eid)
{
    uint8_t *ip = spec->message + spec->inner, *udp_sum = ip + header_of(spec->family) + UDP_SUM;
    size_t octets = octets_of(spec->family), first = spec->family == 4 ? 12 : 8;
    uint8_t unused[2] = {0xff, 0xff}, *ip_sum = spec->family == 4 ? ip + V4_SUM : unused;
    fill(ip + first, source, ip_sum, 1);
    fill(ip + first + octets, eid, ip_sum, 1);
    /* The UDP checksum covers each EID twice: in the pseudo-header and in the message. */
    fill(spec->message + spec->source_at, source, udp_sum, 2);
    fill(spec->message + spec->length - octets, eid, udp_sum, 2);
    if (!lm_get16(udp_sum))
        lm_put16(udp_sum, 0xffff); /* 0 would mean that there is none (RFC 768) */
}

static bool transmit(const struct lm_asking_spec *spec)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(spec->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(spec->port)};
    memcpy(&v4.sin_addr, spec->resolver.octets, 4);
    memcpy(&v6.sin6_addr, spec->resolver.octets, 16);
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control;
    struct iovec io = {(void *)(uintptr_t)spec->message, spec->length};
    bool is_v4 = spec->resolver.family == 4;
    struct msghdr m = {.msg_name = is_v4 ? (void *)&v4 : (void *)&v6,
                       .msg_namelen = is_v4 ? sizeof v4 : sizeof v6,
                       .msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.room};
    LM_SET(m.msg_controllen, lm_data_port_put_pktinfo(control.room, &spec->source, spec->ifindex));
    ssize_t sent = -1;
    for (int tries = 0; sent < 0 && tries < 2; tries++) /* the first refusal may be about an earlier message */
        sent = sendmsg(spec->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent >= 0;
}

/* True when the EID was asked for a while ago at least; notes that it is now. */
static bool is_new(struct lm_asking *asking, uint32_t instance_id, const struct lm_addr *eid, uint64_t now)
{
    for (size_t i = 0; i < LM_ASKING_RECENT; i++) {
        struct lm_asked *asked = &asking->recent[i];
        if (asked->at && asked->instance_id == instance_id && lm_addr_equal(&asked->eid, eid)) {
            bool is_old = now - asked->at > LM_ASKING_AGAIN_NS;
            asked->at = now;
            return is_old;
        }
    }
    asking->recent[asking->next++ % LM_ASKING_RECENT] =
        (struct lm_asked){.at = now, .instance_id = instance_id, .eid = *eid};
    return true;
}

static struct lm_asking_spec *find(struct lm_asking *asking, uint32_t instance_id, const struct lm_addr *source,
                                   const struct lm_addr *eid)
{
    for (size_t i = 0; i < asking->count; i++) {
        struct lm_asking_spec *spec = &asking->prepared[i];
        if (spec->family == eid->family && spec->family == source->family && spec->instance_id == instance_id)
            return spec;
    }
    return NULL;
}

uint64_t lm_asking_send(struct lm_engine *e, uint32_t instance_id, const struct lm_addr *source,
                        const struct lm_addr *eid, uint64_t now)
{
    struct lm_asking *asking = &e->asking;
    struct lm_asking_spec *prepared, filled = {0};
    pthread_mutex_lock(&asking->lock);
    if (is_new(asking, instance_id, eid, now) && (prepared = find(asking, instance_id, source, eid))) {
        filled = *prepared;
        fill_in(&filled, source, eid);
        if (transmit(&filled))
            memmove(prepared, prepared + 1, (size_t)(asking->prepared + --asking->count - prepared) * sizeof *prepared);
        else
            filled.nonce = 0; /* the network as it is refuses it: the control plane asks, and it stays unused */
    }
    pthread_mutex_unlock(&asking->lock);
    return filled.nonce;
}
