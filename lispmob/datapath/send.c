/* From a judged packet to an uplink: size, socket, and what to do when the uplink refuses. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "fragment.h"

#define ICMP_PER_SECOND 100
#define ICMP_BURST 50
#define V6_MTU_MIN 1280u
#define BUSY_WAIT_NS 10000000u /* for room in send buffers: per batch, since updates of the table wait meanwhile */

/* Destination, TTL and TOS of one outer packet. */
struct envelope {
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to;
    struct iovec io;
    union {
        struct cmsghdr align;
        uint8_t room[2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control;
};

enum outcome { SENT, REFUSED, TOO_BIG, LOST };

static void put_int(struct cmsghdr *c, int level, int type, int value)
{
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(c), &value, sizeof value);
}

static void fill(struct msghdr *m, struct envelope *env, const struct lm_job *job, uint8_t *packet, size_t length,
                 bool copy_dscp)
{
    const struct lm_remote *remote = job->remote;
    bool is_v4 = remote->address.family == 4;
    int tos = copy_dscp ? job->inner.tos : job->inner.tos & 3;
    lm_data_header_write(packet - LM_DATA_HEADER, job->instance_id);
    env->io = (struct iovec){packet - LM_DATA_HEADER, length + LM_DATA_HEADER};
    *m = (struct msghdr){.msg_name = &env->to, .msg_iov = &env->io, .msg_iovlen = 1};
    if (is_v4) {
        env->to.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(remote->port)};
        memcpy(&env->to.v4.sin_addr, remote->address.octets, 4);
        m->msg_namelen = sizeof env->to.v4;
    } else {
        env->to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(remote->port)};
        memcpy(&env->to.v6.sin6_addr, remote->address.octets, 16);
        if (lm_addr_is_link_local(&remote->address))
            env->to.v6.sin6_scope_id = (uint32_t)job->path->ifindex;
        m->msg_namelen = sizeof env->to.v6;
    }
    m->msg_control = env->control.room;
    m->msg_controllen = 2 * CMSG_SPACE(sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    put_int(c, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TTL : IPV6_HOPLIMIT, job->inner.ttl);
    c = (struct cmsghdr *)(void *)(env->control.room + CMSG_SPACE(sizeof(int)));
    put_int(c, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TOS : IPV6_TCLASS, tos);
    if (remote->source.family)
        m->msg_controllen += lm_pktinfo_put(env->control.room + m->msg_controllen, &remote->source, 0);
    else if (job->path->data_port == LM_PORT_FIXED)
        m->msg_controllen +=
            lm_pktinfo_put(env->control.room + m->msg_controllen, &job->path->address, job->path->ifindex);
}

/* The port that a NAT on the way wants to see, on this side or on the other; else any of the pool. */
static int socket_of(const struct lm_job *job)
{
    if (job->remote->source.family)
        return job->remote->fd;
    return job->path->data_fd >= 0 ? job->path->data_fd : lm_path_socket(job->path, job->flow);
}

static bool wait_for(struct pollfd *ready, uint64_t deadline)
{
    uint64_t now = lm_now();
    if (now >= deadline)
        return false;
    return poll(ready, 1, (int)((deadline - now) / 1000000u) + 1) > 0 && (ready->revents & POLLOUT);
}

/*
 * An error may be an old one: ICMP errors of earlier packets are reported once by whatever is sent next. So the second
 * refusal counts, not the first.
 */
static enum outcome send_raw(struct lm_engine *e, int fd, const struct msghdr *m, uint64_t now)
{
    for (int tries = 0;; tries++) {
        if (sendmsg(fd, m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return SENT;
        int error = errno;
        if (error == EINTR && tries < 8)
            continue;
        if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) {
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            if (tries > 1 || !wait_for(&ready, now + BUSY_WAIT_NS)) {
                lm_count(&e->counters, LM_out_busy);
                return LOST;
            }
            continue;
        }
        if (error == EMSGSIZE)
            lm_errors_read(e, fd);
        if (tries > 0)
            return error == EMSGSIZE ? TOO_BIG : REFUSED;
    }
}

void lm_icmp_send(struct lm_engine *e, enum lm_icmp_kind kind, uint32_t mtu, const uint8_t *packet,
                  const struct lm_inner *inner, uint64_t now)
{
    /* The host drops what claims to come from its own address: about our own packets the destination has to speak. */
    const struct lm_addr *ours = &e->icmp_source[inner->version == 6];
    bool is_own = lm_table_lookup(e->eids, 0, &inner->source) != NULL;
    uint8_t error[LM_ICMP_MAX];
    size_t length = lm_icmp_build(error, kind, mtu, ours->family && !is_own ? ours : &inner->destination, packet, inner);
    if (length == 0)
        lm_count(&e->counters, LM_icmp_forbidden);
    else if (!lm_bucket_take(&e->icmp_bucket, now, ICMP_PER_SECOND, ICMP_BURST))
        lm_count(&e->counters, LM_icmp_limited);
    else
        lm_count(&e->counters, write(e->tun, error, length) < 0 ? LM_in_refused : LM_icmp_sent);
}

static uint32_t overhead(const struct lm_remote *remote)
{
    return (remote->address.family == 4 ? 20u : 40u) + 8u + LM_DATA_HEADER;
}

/* The largest inner packet that leaves whole. */
static uint32_t room_of(const struct lm_job *job)
{
    return lm_path_mtu(job->path, job->remote, job->now) - overhead(job->remote);
}

static void too_big(struct lm_engine *e, const struct lm_job *job, uint32_t room)
{
    lm_count(&e->counters, LM_out_toobig);
    lm_icmp_send(e, LM_ICMP_TOO_BIG, room, job->packet, &job->inner, job->now);
}

static enum outcome send_fragments(struct lm_engine *e, struct lm_job *job, uint32_t room)
{
    size_t count = lm_fragment_count(job->packet, &job->inner, room);
    struct envelope env;
    struct msghdr m;
    if (count == 0) {
        too_big(e, job, room);
        return LOST;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t *packet = e->fragment + LM_FRAME_HEADROOM;
        size_t length = lm_fragment_write(packet, job->packet, &job->inner, i, count);
        fill(&m, &env, job, packet, length, e->config.copy_dscp);
        enum outcome outcome = send_raw(e, socket_of(job), &m, job->now);
        if (outcome != SENT)
            return i == 0 || outcome == LOST ? outcome : REFUSED;
    }
    lm_count(&e->counters, LM_out_fragmented);
    return SENT;
}

/* One try by one path: whole, in fragments, or not at all with a word to the source. */
static enum outcome try_path(struct lm_engine *e, struct lm_job *job)
{
    struct envelope env;
    struct msghdr m;
    for (int tries = 0; tries < 3; tries++) { /* each "too big" has lowered the path MTU */
        uint32_t room = room_of(job);
        enum outcome outcome;
        if (job->inner.length <= room) {
            fill(&m, &env, job, job->packet, job->inner.length, e->config.copy_dscp);
            outcome = send_raw(e, socket_of(job), &m, job->now);
        } else if (!job->inner.dont_fragment) {
            outcome = send_fragments(e, job, room);
        } else if (job->inner.version == 6 && job->inner.length <= V6_MTU_MIN) {
            fill(&m, &env, job, job->packet, job->inner.length, e->config.copy_dscp);
            outcome = send_raw(e, job->path->sockets[job->path->pool], &m, job->now);
            if (outcome == SENT)
                lm_count(&e->counters, LM_out_outer_fragmented);
        } else {
            too_big(e, job, job->inner.version == 6 && room < V6_MTU_MIN ? V6_MTU_MIN : room);
            return LOST;
        }
        if (outcome == SENT)
            lm_stall_sent(e, job->path, job->now);
        if (outcome != TOO_BIG)
            return outcome;
    }
    lm_count(&e->counters, LM_out_toobig); /* the kernel knows a smaller MTU than it tells */
    return LOST;
}

static void sent(struct lm_engine *e, size_t packets, size_t octets, uint64_t now)
{
    lm_traffic_note(e, LM_OUTBOUND, now);
    lm_count_many(&e->counters, LM_out_packets, packets);
    lm_count_many(&e->counters, LM_out_octets, octets);
}

/* The first choice has refused: every other usable path, its family first, by priority. */
static enum outcome fail_over(struct lm_engine *e, struct lm_job *job)
{
    const struct lm_path *first = job->path;
    const struct lm_uplinks *uplinks = e->uplinks;
    for (int round = 0; round < 2; round++) {
        uint8_t family = (first->address.family == 4) == (round == 0) ? 4 : 6;
        if (!(uplinks->families & lm_family_bit(family)))
            continue;
        const struct lm_remote *remote = lm_locator_choose(job->set, lm_family_bit(family), job->flow);
        for (unsigned priority = 0; remote && priority < LM_PRIORITY_NEVER; priority++)
            for (size_t i = 0; i < uplinks->path_count; i++) {
                job->path = &uplinks->paths[i];
                job->remote = lm_path_remote(job->path, remote, job->flow);
                if (job->path == first || job->path->priority != priority || job->path->address.family != family)
                    continue;
                enum outcome outcome = try_path(e, job);
                if (outcome == SENT)
                    lm_count(&e->counters, LM_out_failover);
                if (outcome != REFUSED)
                    return outcome;
            }
    }
    return REFUSED;
}

void lm_send(struct lm_engine *e, struct lm_job *job)
{
    if (job->is_relayed) { /* the inbound thread has no queues: by way of the kernel it reaches the thread that has */
        lm_count(&e->counters, write(e->tun, job->packet, job->inner.length) < 0 ? LM_in_refused : LM_data_packets);
        return;
    }
    enum outcome outcome = job->path ? try_path(e, job) : REFUSED;
    if (outcome == REFUSED && job->path)
        outcome = fail_over(e, job);
    if (outcome == SENT)
        sent(e, 1, job->inner.length, job->now);
    if (outcome != REFUSED)
        return;
    static const struct lm_addr one_key = {0};
    if (!job->is_retry)
        lm_count(&e->counters, LM_out_stalled);
    (void)lm_pending_add(e->stalled, 0, &one_key, job->packet, job->inner.length, job->born, job->now);
}

/* Sends the jobs that share a socket with the first one together; returns how many jobs are left, moved up front. */
static size_t send_group(struct lm_engine *e, struct lm_job **jobs, size_t count)
{
    static _Thread_local struct envelope envelopes[LM_BATCH];
    static _Thread_local struct mmsghdr messages[LM_BATCH];
    struct lm_job *group[LM_BATCH];
    int fd = socket_of(jobs[0]);
    size_t size = 0, left = 0;
    for (size_t i = 0; i < count; i++) {
        if (socket_of(jobs[i]) != fd) {
            jobs[left++] = jobs[i];
            continue;
        }
        fill(&messages[size].msg_hdr, &envelopes[size], jobs[i], jobs[i]->packet, jobs[i]->inner.length,
             e->config.copy_dscp);
        group[size++] = jobs[i];
    }
    for (size_t done = 0; done < size;) {
        int n = sendmmsg(fd, messages + done, (unsigned)(size - done), MSG_DONTWAIT | MSG_NOSIGNAL);
        size_t gone = n > 0 ? (size_t)n : 0, octets = 0;
        for (size_t i = done; i < done + gone; i++)
            octets += group[i]->inner.length;
        if (gone) {
            sent(e, gone, octets, group[done]->now);
            for (size_t i = done; i < done + gone; i++)
                lm_stall_sent(e, group[i]->path, group[i]->now);
        }
        done += gone;
        if (done < size && gone == 0)
            lm_send(e, group[done++]); /* the one that was refused goes the long way */
    }
    return left;
}

void lm_send_batch(struct lm_engine *e, struct lm_job **jobs, size_t count)
{
    size_t whole = 0;
    for (size_t i = 0; i < count; i++) {
        if (jobs[i]->path && jobs[i]->inner.length <= room_of(jobs[i]))
            jobs[whole++] = jobs[i];
        else
            lm_send(e, jobs[i]);
    }
    while (whole > 0)
        whole = send_group(e, jobs, whole);
}
