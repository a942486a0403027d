/*
 * Sends a single packet by an uplink: its LISP header, its size, its socket, and what to do when the uplink refuses.
 * Runs of packets leave by batch.c, which calls this for what does not fit a path.
 *
 *  1. lm_send() cuts a super-packet into segments, and sends each with send_one().
 *  2. try_path() compares the packet's size with the path MTU. A larger packet is fragmented if it may be; otherwise its
 *     source gets an ICMP error.
 *  3. send_packet() writes the LISP header and the outer addresses, seals the packet if the peer has a session, and
 *     hands it to the socket.
 *  4. When the uplink refuses, fail_over() tries every other usable path. If none takes the packet, it waits for the
 *     next change of uplinks (pending.c).
 *
 * lm_send_put_lisp_header() is the one place that writes the LISP header of this tier.
 */
#include <errno.h>
#include <linux/udp.h>
#include <poll.h>

#include "base/cmsg.h"
#include "engine/outer.h"
#include "liveness/on_sent.h"
#include "packet/fragment.h"
#include "seal/nested_mtu.h"
#include "table/pieces.h"

#define V6_MTU_MIN 1280u

enum outcome { SENT, HELD, REFUSED, TOO_BIG, LOST };

void lm_send_fill_outer(struct msghdr *m, struct lm_outer_head *env, const struct lm_job *job, bool copy_dscp,
                        size_t run)
{
    const struct lm_remote *remote = job->remote;
    bool is_v4 = remote->address.family == 4;
    int tos = lm_rules_outer_tos(job->inner.tos, copy_dscp), ttl = job->inner.ttl;
    *m = (struct msghdr){.msg_name = &env->to};
    if (is_v4) {
        env->to.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(remote->port)};
        memcpy(&env->to.v4.sin_addr, remote->address.octets, 4);
        m->msg_namelen = sizeof env->to.v4;
    } else {
        env->to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(remote->port)};
        memcpy(&env->to.v6.sin6_addr, remote->address.octets, 16);
        if (lm_address_is_link_local(&remote->address))
            env->to.v6.sin6_scope_id = (uint32_t)job->path->ifindex;
        m->msg_namelen = sizeof env->to.v6;
    }
    uint8_t *room = env->control.room;
    int level = is_v4 ? IPPROTO_IP : IPPROTO_IPV6;
    m->msg_control = room;
    room += lm_control_put(room, level, is_v4 ? IP_TTL : IPV6_HOPLIMIT, &ttl, sizeof ttl);
    room += lm_control_put(room, level, is_v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos);
    if (run) {
        uint16_t size = (uint16_t)run;
        room += lm_control_put(room, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
    }
    if (remote->source.family && remote->fd >= 0)
        room += lm_data_port_put_pktinfo(room, &remote->source, 0);
    else if (job->path->data_port == LM_PORT_FIXED)
        room += lm_data_port_put_pktinfo(room, &job->path->address, job->path->ifindex);
    LM_SET(m->msg_controllen, room - env->control.room);
}

int lm_send_socket(const struct lm_job *job)
{
    if (job->remote->source.family && job->remote->fd >= 0)
        return job->remote->fd;
    return job->path->data_fd >= 0 ? job->path->data_fd : lm_path_socket(job->path, job->flow);
}

static bool set_sums(const struct lm_job *job, int fd, bool sums)
{
    int is_off = !sums;
    bool is_v4 = job->path->address.family == 4;
    return !setsockopt(fd, is_v4 ? SOL_SOCKET : IPPROTO_UDP, is_v4 ? SO_NO_CHECK : UDP_NO_CHECK6_TX, &is_off,
                       sizeof is_off);
}

/*
 * Returns the bit of the socket in the pool. 0: it is not of the pool, and always computes checksums because of NATs.
 */
static uint64_t bit_of(const struct lm_path *path, int fd)
{
    for (size_t i = 0; i < path->pool; i++)
        if (path->sockets[i] == fd)
            return UINT64_C(1) << i;
    return 0;
}

bool lm_send_sum_outer(const struct lm_job *job, int fd)
{
    if (!set_sums(job, fd, true))
        return false;
    struct lm_path *path = (struct lm_path *)(uintptr_t)job->path;
    atomic_fetch_or(&path->sums, bit_of(path, fd));
    return true;
}

void lm_send_unsum_outer(const struct lm_engine *e, const struct lm_job *job, int fd)
{
    struct lm_path *path = (struct lm_path *)(uintptr_t)job->path;
    uint64_t sums = atomic_load_explicit(&path->sums, memory_order_relaxed);
    if (sums == 0 || e->config.udp_checksum || path->needs_sums || lm_job_copes(job) || !(sums & bit_of(path, fd)))
        return;
    if (set_sums(job, fd, false))
        atomic_fetch_and(&path->sums, ~bit_of(path, fd));
}

bool lm_send_wait(int fd, uint64_t deadline)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    uint64_t now = lm_clock_now();
    if (now >= deadline)
        return false;
    return poll(&ready, 1, (int)((deadline - now) / 1000000u) + 1) > 0 && (ready.revents & POLLOUT);
}

/* An outer packet, with all that sendmsg needs. */
struct outer_packet {
    struct lm_outer_head head;
    struct iovec io;
    struct msghdr message;
};

/* Fills in the outer packet. NULL: it cannot be sealed, which is counted. */
static const struct msghdr *fill(struct lm_engine *e, struct outer_packet *outer, const struct lm_job *job,
                                 uint8_t *packet, size_t length)
{
    lm_send_fill_outer(&outer->message, &outer->head, job, e->config.copy_dscp, 0);
    lm_send_unsum_outer(e, job, lm_send_socket(job));
    if (job->seal) {
        struct iovec part = {packet, length};
        uint64_t counter;
        uint8_t *out = lm_sealed_out_single(e);
        size_t octets = lm_sealed_out_take(e, job, 1, &counter) ? lm_sealed_out_put(e, job, counter, &part, 1, out) : 0;
        if (octets == 0)
            return NULL;
        outer->io = (struct iovec){out, octets};
    } else {
        lm_send_put_lisp_header(e, job, packet - LM_DATA_HEADER);
        outer->io = (struct iovec){packet - LM_DATA_HEADER, length + LM_DATA_HEADER};
    }
    outer->message.msg_iov = &outer->io;
    outer->message.msg_iovlen = 1;
    return &outer->message;
}

/*
 * Sends one outer packet. The first error may be about an earlier packet, because a send reports ICMP errors that came
 * meanwhile. So the second error counts.
 *
 * If the uplink has no room, the job is kept. The function waits for room instead if this is only a part of the job
 * (`is_rest`), or if the inbound thread relays it: arriving packets wait in the socket meanwhile.
 */
static enum outcome send_raw(struct lm_engine *e, const struct lm_job *job, const struct msghdr *m, int fd,
                             bool is_rest)
{
    if (!m)
        return LOST;
    is_rest = is_rest || job->inner.length == 0;
    if (!is_rest && lm_backpressure_has(e, job, fd)) {
        lm_backpressure_add(e, job, fd, true);
        return HELD;
    }
    for (int tries = 0;; tries++) {
        if (sendmsg(fd, m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return SENT;
        int error = errno;
        if (error == EINTR && tries < 8)
            continue;
        if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) {
            if (!is_rest && !job->is_relayed) {
                lm_backpressure_add(e, job, fd, error == EAGAIN);
                return HELD;
            }
            if (tries > 1 || !lm_send_wait(fd, job->now + LM_BUSY_WAIT_NS)) {
                lm_count(&e->counters, LM_out_busy);
                return LOST;
            }
            continue;
        }
        if (tries > 0 && error == EMSGSIZE)
            lm_path_mtu_refused(e, job, fd);
        if (tries > 0) {
            if (error == EPERM)
                lm_count(&e->counters, LM_out_forbidden);
            return error == EMSGSIZE ? TOO_BIG : REFUSED;
        }
    }
}

/* Sends a sealed packet by one of its two paths, at once or not at all: the other path may be faster. */
static enum outcome send_way(struct lm_engine *e, const struct lm_job *job, uint8_t *sealed, size_t octets)
{
    struct outer_packet outer;
    int fd = lm_send_socket(job);
    lm_send_fill_outer(&outer.message, &outer.head, job, e->config.copy_dscp, 0);
    lm_send_unsum_outer(e, job, fd);
    outer.io.iov_base = (void *)(uintptr_t)lm_sealed_out_wrap(e, job, sealed, &octets);
    outer.io.iov_len = octets;
    outer.message.msg_iov = &outer.io;
    outer.message.msg_iovlen = 1;
    for (int tries = 0;; tries++) {
        if (sendmsg(fd, &outer.message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            break;
        int error = errno;
        if (error == EAGAIN || error == ENOBUFS || error == ENOMEM)
            return HELD;
        if (tries > 0 && error == EMSGSIZE)
            lm_path_mtu_refused(e, job, fd);
        if (tries > 0) {
            if (error == EPERM)
                lm_count(&e->counters, LM_out_forbidden);
            return error == EMSGSIZE ? TOO_BIG : REFUSED;
        }
    }
    lm_on_sent_way(e, job, job->inner.length);
    return SENT;
}

/* Sends a job by both paths, sealed once. It has been sent if one of them takes it. */
static enum outcome send_twice(struct lm_engine *e, const struct lm_job *job, uint8_t *packet, size_t length)
{
    struct iovec part = {packet, length};
    uint64_t counter;
    uint8_t *out = lm_sealed_out_single(e);
    struct lm_job second = *job;
    lm_way_take(&second, &job->copy);
    bool first_may = lm_sealed_out_may_go(e, job, 1), second_may = lm_sealed_out_may_go(e, &second, 1);
    bool is_numbered = (first_may || second_may) && lm_sealed_out_number(e, job, 1, &counter);
    size_t octets = is_numbered ? lm_sealed_out_seal(e, job, counter, &part, 1, out) : 0;
    if (octets == 0)
        return LOST;
    enum outcome first = first_may ? send_way(e, job, out, octets) : REFUSED;
    enum outcome other = second_may ? send_way(e, &second, out, octets) : REFUSED;
    if (first == SENT && other == SENT) {
        lm_count(&e->counters, LM_out_copies);
        atomic_fetch_add_explicit(&second.remote->state->sent, 1, memory_order_relaxed);
    } else if (first == SENT || other == SENT) {
        lm_count(&e->counters, LM_out_uncopied);
    }
    if (first == SENT || other == SENT)
        return SENT;
    if (first == HELD || other == HELD) { /* nothing was sent: both are tried again, sealed with another counter */
        const struct lm_job *full = first == HELD ? job : &second;
        lm_backpressure_add(e, job, lm_send_socket(full), true);
        return HELD;
    }
    return first == TOO_BIG || other == TOO_BIG ? TOO_BIG : REFUSED;
}

/* Sends one packet or fragment. `is_rest`: it is a part of the packet, and not the first one. */
static enum outcome send_packet(struct lm_engine *e, const struct lm_job *job, uint8_t *packet, size_t length,
                                bool is_rest)
{
    struct outer_packet outer;
    if (job->copy.path && job->seal)
        return send_twice(e, job, packet, length);
    const struct msghdr *m = fill(e, &outer, job, packet, length);
    return send_raw(e, job, m, lm_send_socket(job), is_rest);
}

struct lm_job lm_send_segments(struct lm_engine *e, const struct lm_job *job, size_t index)
{
    struct lm_job made = *job;
    made.packet = (job->is_relayed ? e->relayed_segment : e->segment) + LM_FRAME_HEADROOM;
    made.inner.length = lm_segment_write(made.packet, job->packet, &job->inner, &job->segments, index);
    made.segments.count = 0;
    made.vnet = (lm_vnet){0};
    return made;
}

uint32_t lm_send_overhead(const struct lm_remote *remote)
{
    return lm_rules_outer_octets(remote->address.family == 4);
}

static uint32_t room_of(const struct lm_job *job)
{
    uint32_t room = lm_path_mtu(job->path, job->remote) - lm_send_overhead(job->remote);
    if (job->is_nested) {
        uint32_t beyond = lm_nested_mtu_of(job->seal, job->now);
        room = beyond < room ? beyond : room;
    }
    return room - (uint32_t)lm_job_seal_octets(job);
}

uint32_t lm_send_room(const struct lm_job *job)
{
    uint32_t room = room_of(job);
    if (!job->copy.path)
        return room;
    struct lm_job second = *job;
    lm_way_take(&second, &job->copy);
    uint32_t other = room_of(&second);
    return room < other ? room : other;
}

static void too_big(struct lm_engine *e, const struct lm_job *job, uint32_t room)
{
    lm_count(&e->counters, LM_out_toobig);
    lm_path_mtu_note_large(e, job,
                           /*
                            * The sender would use a larger MTU: the control plane checks whether this is still the
                            * limit.
                            */
                           job->inner.length);
    lm_send_icmp_about(e, LM_ICMP_TOO_BIG, job->inner.version == 6 && room < V6_MTU_MIN ? V6_MTU_MIN : room, job);
}

static enum outcome send_fragments(struct lm_engine *e, struct lm_job *job, uint32_t room)
{
    size_t count = lm_fragment_count(job->packet, &job->inner, room);
    if (count == 0) {
        too_big(e, job, room);
        return LOST;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t *packet = (job->is_relayed ? e->relayed_fragment : e->fragment) + LM_FRAME_HEADROOM;
        size_t length = lm_fragment_write(packet, job->packet, &job->inner, i, count);
        enum outcome outcome = send_packet(e, job, packet, length, i > 0);
        if (outcome != SENT)
            return i == 0 || outcome == LOST ? outcome : REFUSED;
    }
    lm_count(&e->counters, LM_out_fragmented);
    return SENT;
}

/*
 * Sends a packet that is larger than the path MTU and whose source cannot send less. The kernel and the routers
 * fragment the outer packet.
 */
static enum outcome send_in_pieces(struct lm_engine *e, const struct lm_job *job)
{
    struct outer_packet outer;
    const struct msghdr *m = fill(e, &outer, job, job->packet, job->inner.length);
    bool has_own_port = job->path->data_fd >= 0 || (job->remote->source.family && job->remote->fd >= 0);
    enum outcome outcome;
    if (has_own_port) {
        int fd = lm_send_socket(job);
        struct lm_pieces begun = lm_pieces_begin(fd, job->remote->address.family == 4);
        outcome = send_raw(e, job, m, fd, false);
        lm_pieces_end(&begun);
    } else {
        outcome = send_raw(e, job, m, job->path->sockets[job->path->pool], false);
    }
    if (outcome == SENT)
        lm_count(&e->counters, LM_out_outer_fragmented);
    return outcome;
}

/* Tries one path: sends the packet whole or in fragments, or refuses it with an ICMP error to the source. */
static enum outcome try_path(struct lm_engine *e, struct lm_job *job)
{
    for (int tries = 0; tries < 3; tries++) { /* each "too big" has lowered the path MTU (liveness/path_mtu.c) */
        uint32_t room = lm_send_room(job);
        enum outcome outcome;
        if (job->inner.length <= room) {
            outcome = send_packet(e, job, job->packet, job->inner.length, false);
        } else if (!job->inner.dont_fragment) {
            outcome = send_fragments(e, job, room);
        } else if (job->inner.version == 6 && job->inner.length <= V6_MTU_MIN) {
            outcome = send_in_pieces(e, job);
        } else if (job->is_relayed && lm_nested_mtu_must_pass(job->packet, job->inner.length)) {
            outcome = send_in_pieces(e, job);
            if (outcome == SENT) /* reports the MTU to a source that can send less, as TCP over IPv4 can */
                lm_send_icmp_about(e, LM_ICMP_TOO_BIG, room, job);
        } else {
            too_big(e, job, room);
            return LOST;
        }
        if (outcome == SENT) {
            lm_on_sent(e, job, 1, job->inner.length, job->inner.length < room ? job->inner.length : room);
        }
        if (outcome != TOO_BIG)
            return outcome;
    }
    too_big(e, job, lm_send_room(job)); /* the kernel accepts less than the path MTU that it reports */
    return LOST;
}

/* The chosen uplink has refused. Tries every other usable path by priority, the same family first. */
static enum outcome fail_over(struct lm_engine *e, struct lm_job *job)
{
    const struct lm_path *first = job->path;
    const struct lm_uplinks *uplinks = e->uplinks;
    job->copy = (struct lm_way){0};
    for (int round = 0; round < 2; round++) {
        uint8_t family = (first->address.family == 4) == (round == 0) ? 4 : 6;
        if (!(uplinks->families & lm_family_bit(family)))
            continue;
        struct lm_remote *remote = lm_locator_choose(job->set, lm_family_bit(family), job->flow);
        for (unsigned priority = 0; remote && priority < LM_PRIORITY_NEVER; priority++)
            for (size_t i = 0; i < uplinks->path_count; i++) {
                job->path = &uplinks->paths[i];
                job->remote = remote;
                lm_outbound_turn(e, job);
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

bool lm_send_by_path(struct lm_engine *e, struct lm_job *job)
{
    return try_path(e, job) == SENT;
}

bool lm_send_empty(struct lm_engine *e, struct lm_job *job)
{
    job->is_own = true;
    enum outcome outcome = try_path(e, job);
    return (outcome == REFUSED ? fail_over(e, job) : outcome) == SENT;
}

/*
 * Sends a relayed packet. One that is too large is fragmented here, or its source gets an ICMP error. One that an
 * uplink refuses is written to the TUN: if the kernel forwards, it comes to the outbound thread, which has queues.
 */
static void send_relayed(struct lm_engine *e, struct lm_job *job)
{
    enum outcome outcome = job->path && job->inner.length > lm_send_room(job) ? try_path(e, job) : REFUSED;
    if (outcome == REFUSED) {
        bool is_written = lm_device_write(e, e->tun, job->packet, job->inner.length);
        lm_count(&e->counters, is_written ? LM_data_packets : LM_in_refused);
    }
}

static void send_one(struct lm_engine *e, struct lm_job *job)
{
    if (job->is_relayed) {
        send_relayed(e, job);
        return;
    }
    enum outcome outcome = job->path ? try_path(e, job) : REFUSED;
    if (outcome == REFUSED && job->path && (job->lane == LM_LANE_DEFAULT || !e->drops_unusable))
        outcome = fail_over(e, job);
    if (outcome != REFUSED)
        return;
    static const struct lm_addr one_key = {0};
    e->has_stalled = true;
    if (!job->is_retry)
        lm_count(&e->counters, LM_out_stalled);
    (void)lm_pending_add(e->stalled, 0, &one_key, &job->vnet, job->packet, job->inner.length, job->lane, job->born,
                         job->now);
}

/* True when no segment fits the path and none may be fragmented. One ICMP error is enough for all. */
static bool is_too_big(const struct lm_job *job)
{
    size_t length = job->segments.header + lm_segment_payload(&job->segments, &job->inner, 0);
    return job->inner.dont_fragment && length > lm_send_room(job) && (job->inner.version == 4 || length > V6_MTU_MIN);
}

void lm_send(struct lm_engine *e, struct lm_job *job)
{
    if (job->segments.count == 0 || !job->path) { /* a super-packet that waits for an uplink stays one packet */
        send_one(e, job);
        return;
    }
    size_t count = job->segments.count;
    if (is_too_big(job)) {
        lm_count_many(&e->counters, LM_out_toobig, count - 1);
        count = 1;
    }
    for (size_t i = 0; i < count; i++) {
        struct lm_job segment = lm_send_segments(e, job, i);
        send_one(e, &segment);
    }
}

void lm_send_put_lisp_header(const struct lm_engine *e, const struct lm_job *job, uint8_t *header)
{
    lm_lisp_header_write(header, job->instance_id);
    if (job->remote->port == LM_PORT_CONTROL) /* there, only these headers differ from control messages */
        return;
    lm_send_put_status(e, header);
    struct lm_echo *echo = &job->remote->state->echo;
    if (atomic_load_explicit(&echo->copies, memory_order_relaxed) ||
        atomic_load_explicit(&echo->asked, memory_order_relaxed))
        lm_echo_nonce_put(echo, job->now, header);
}

void lm_send_put_status(const struct lm_engine *e, uint8_t *header)
{
    uint64_t status = atomic_load_explicit(&e->shared->status, memory_order_relaxed);
    if (status & LM_STATUS_SENT)
        lm_lisp_header_put_status(header, (uint32_t)status);
}
