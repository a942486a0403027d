/*
 * From UDP port 4341 to the TUN device: the ETR (RFC 9300, section 4), in one thread; and errors of the uplinks'
 * sockets.
 *
 * What happens to a datagram:
 *
 *  1. receive() reads a batch, each datagram with the address and the interface that it arrived at.
 *  2. arrive() parses the LISP header and the inner packet. Control messages (Instance-ID 0xFFFFFF) are reported to Python.
 *  3. judge() checks that the destination is a local EID, and that the sender may send for the source (source.c).
 *     Later datagrams of the same flow in the same message are accepted without another check.
 *  4. Locator-Status-Bits and nonces in the header are recorded, and that the path works.
 *  5. An RTR forwards the packet (nat/rtr.c). A node calls deliver(), which carries TTL and ECN over from the
 *     outer header and joins packets of one flow into one write to the TUN device (packet/coalesce.c).
 *
 * The thread holds the table lock for reading for one batch. Every drop is counted by its reason.
 */
#include <errno.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cmsg.h"
#include "engine/engine.h"
#include "seal/handshake.h"
#include "seal/nested_mtu.h"

#define EVENTS 16
#define HEARD_PROBES 16

struct arrival {
    struct sockaddr_storage from;
    struct iovec io;
    union {
        struct cmsghdr align;
        uint8_t room[256];
    } control;
};

static int int_of(const struct cmsghdr *c)
{
    int value = 0;
    /* IP_TOS arrives as one octet, all other messages as int. */
    if (c->cmsg_len == CMSG_LEN(1))
        return *(const uint8_t *)CMSG_DATA(c);
    memcpy(&value, CMSG_DATA(c), sizeof value);
    return value;
}

static void read_outer(const struct msghdr *m, struct lm_outer *outer)
{
    memset(outer, 0, sizeof *outer);
    outer->ttl = 255;
    const struct sockaddr_storage *from = m->msg_name;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        outer->source = lm_addr_make(4, (const uint8_t *)&v4->sin_addr);
        outer->source_port = ntohs(v4->sin_port);
    } else {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
        outer->source = lm_addr_make(6, v6->sin6_addr.s6_addr);
        outer->source_port = ntohs(v6->sin6_port);
    }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = lm_control_next(m, c)) {
        bool is_v4 = c->cmsg_level == IPPROTO_IP, is_v6 = c->cmsg_level == IPPROTO_IPV6;
        if ((is_v4 && c->cmsg_type == IP_TTL) || (is_v6 && c->cmsg_type == IPV6_HOPLIMIT))
            outer->ttl = (uint8_t)int_of(c);
        else if ((is_v4 && c->cmsg_type == IP_TOS) || (is_v6 && c->cmsg_type == IPV6_TCLASS))
            outer->tos = (uint8_t)int_of(c);
        else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
            outer->run = (size_t)int_of(c);
        else if (is_v4 && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            outer->destination = lm_addr_make(4, (const uint8_t *)&info.ipi_addr);
            outer->ifindex = info.ipi_ifindex;
        } else if (is_v6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            outer->destination = lm_addr_make(6, info.ipi6_addr.s6_addr);
            outer->ifindex = (int)info.ipi6_ifindex;
        }
    }
}

static bool is_same(const struct lm_heard *a, const struct lm_heard *b)
{
    return a->is_proven == b->is_proven && lm_addr_equal(&a->source, &b->source) && lm_addr_equal(&a->local, &b->local);
}

/* Records the pair of locators that delivered data. A pair is left out when its hash slots are full. */
static void note_heard(struct lm_engine *e, const struct lm_outer *outer)
{
    struct lm_heard heard = {outer->source, outer->destination, outer->has_proven || outer->has_opened};
    size_t first = heard.is_proven ? 0 : LM_HEARD_PROVEN;
    size_t room = heard.is_proven ? LM_HEARD_PROVEN : LM_HEARD_MAX - LM_HEARD_PROVEN;
    pthread_mutex_lock(&e->heard_lock);
    if (!is_same(&e->heard_last, &heard)) {
        uint64_t words[2] = {lm_get64(outer->source.octets) ^ lm_get64(outer->destination.octets),
                             lm_get64(outer->source.octets + 8) + lm_get64(outer->destination.octets + 8)};
        size_t start = (size_t)lm_hash(&e->key, words, 2);
        for (size_t i = 0; i < HEARD_PROBES; i++) {
            struct lm_heard *place = &e->heard[first + (start + i) % room];
            if (place->source.family && !is_same(place, &heard))
                continue;
            *place = e->heard_last = heard;
            break;
        }
    }
    pthread_mutex_unlock(&e->heard_lock);
}

static void note_flags(struct lm_engine *e, uint8_t flags)
{
    if (flags & LM_FLAG_N)
        lm_count(&e->counters, LM_data_nonce);
    else if (flags & LM_FLAG_V)
        lm_count(&e->counters, LM_data_version);
    if (flags & LM_FLAG_L)
        lm_count(&e->counters, LM_data_lsb);
}

static bool is_tunnel_in_tunnel(const struct lm_inner *inner)
{
    return inner->protocol == IPPROTO_UDP && inner->has_ports &&
           (inner->destination_port == LM_PORT_DATA || inner->destination_port == LM_PORT_CONTROL);
}

static bool is_denied(const struct lm_engine *e, uint32_t iid, const struct lm_addr *destination)
{
    const struct lm_entry *to = lm_table_lookup(e->table, iid, destination);
    return to && to->kind == LM_PROHIBIT;
}

/*
 * Makes the checks of the ETR on destination and source. Returns LM_COUNTER_COUNT if all hold, else the counter of the
 * reason.
 */
static enum lm_counter judge(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer,
                             bool is_handshake, bool *is_proven)
{
    const struct lm_inner *inner = &data->inner;
    uint32_t iid = data->instance_id;
    bool is_proxied = e->config.is_proxy && iid == e->config.proxy_instance_id;
    if (!is_proxied && !lm_table_has_instance(e->instances, iid))
        return LM_data_iid;
    const struct lm_entry *own = lm_table_lookup(e->eids, 0, &inner->destination);
    bool is_ours = own && (uint32_t)(uintptr_t)own->value == iid;
    if (!is_ours && (!is_proxied || own || !lm_address_may_be_eid(&inner->destination)))
        return LM_data_notours;
    if (is_ours && ((is_tunnel_in_tunnel(inner) && !is_handshake) || lm_table_lookup(e->eids, 0, &outer->destination)))
        return LM_data_notours;
    if (!lm_address_may_be_eid(&inner->source) || lm_table_lookup(e->eids, 0, &inner->source) ||
        lm_uplinks_owns(e->uplinks, &inner->source))
        return LM_data_source;
    if (outer->opened_by && !lm_peers_may_send(e->peers, outer->opened_by, &inner->source))
        return LM_data_source;
    if (outer->opened_by) /* the session authenticates the source; its address does not */
        return is_ours || !is_denied(e, iid, &inner->destination) ? LM_COUNTER_COUNT : LM_data_denied;
    if (!is_handshake && lm_table_lookup(e->peers->refused, iid, &inner->source)) {
        lm_sealed_in_clear(e, data, outer);
        return LM_data_clear;
    }
    if (!lm_data_port_admits(e, outer))
        return LM_data_source;
    if (is_ours && !e->config.is_proxy)
        return lm_source_judge(e, data, outer, is_proven);
    if (is_denied(e, iid, &inner->destination))
        return LM_data_denied;
    const struct lm_entry *sender = lm_table_lookup(e->table, iid, &inner->source);
    if (!sender || sender->kind != LM_ENCAPSULATE || !lm_locator_set_holds(sender->value, &outer->source))
        return LM_data_source;
    return LM_COUNTER_COUNT;
}

static void pass_control(struct lm_engine *e, const uint8_t *packet, const struct lm_inner *inner,
                         const struct lm_outer *outer)
{
    struct lm_punt report = {.kind = LM_PUNT_CONTROL,
                             .instance_id = LM_CONTROL_IID,
                             .source = inner->source,
                             .destination = inner->destination,
                             .source_port = inner->source_port,
                             .destination_port = inner->destination_port,
                             .outer_source = outer->source,
                             .outer_source_port = outer->source_port,
                             .outer_destination = outer->destination,
                             .is_at_control_port = outer->is_at_control_port,
                             .ifindex = outer->ifindex};
    const uint8_t *udp = packet + inner->header;
    if (!lm_source_admits_control(e, outer))
        lm_count(&e->counters, LM_data_control_limited);
    else if (lm_peer_check_take(e, udp + 8, (size_t)lm_get16(udp + 4) - 8, outer))
        return;
    else if (lm_punt_put(&e->punts, &report, udp + 8, (size_t)lm_get16(udp + 4) - 8))
        lm_count(&e->counters, LM_data_control);
}

/* An RTR reports an unregistered source within a second. */
static bool is_relayed(const struct lm_engine *e, const struct lm_data *data)
{
    if (!e->config.is_rtr)
        return false;
    const struct lm_entry *to = lm_table_lookup(e->table, data->instance_id, &data->inner.destination);
    return to && to->kind == LM_ENCAPSULATE && lm_address_may_be_eid(&data->inner.source);
}

static bool is_accepted(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data, struct lm_outer *outer)
{
    const struct lm_inner *now = &data->inner, *before = &outer->accepted.inner;
    if (before->version && outer->accepted_by == outer->opened_by && data->instance_id == outer->accepted.instance_id &&
        now->protocol == before->protocol && now->has_ports == before->has_ports &&
        now->destination_port == before->destination_port && lm_addr_equal(&now->source, &before->source) &&
        lm_addr_equal(&now->destination, &before->destination))
        return true;
    bool is_proven = true;
    bool is_handshake = lm_handshake_is(packet, now);
    enum lm_counter why = judge(e, data, outer, is_handshake, &is_proven);
    if (e->config.is_rtr && !outer->opened_by && (why == LM_data_source || why == LM_COUNTER_COUNT))
        lm_rtr_note(e, data, outer, why == LM_COUNTER_COUNT);
    if (why == LM_COUNTER_COUNT) {
        if (is_proven && !is_handshake) { /* other messages to that port are refused */
            outer->accepted = *data;
            outer->accepted_by = outer->opened_by;
        }
        outer->has_proven |= is_proven;
        if (!e->config.is_proxy)
            lm_destination_report_heard(e, data, outer->now);
        return true;
    }
    lm_count(&e->counters, why);
    bool may_prove = !outer->opened_by || !lm_peers_is_others(e->peers, outer->opened_by, &data->inner.source);
    if (why == LM_data_source && may_prove && (e->config.source_check >= LM_CHECK_LOOSE || is_relayed(e, data)))
        lm_source_keep(e, packet, data, outer);
    return false;
}

static void count_written(struct lm_engine *e, bool is_written, size_t packets, size_t octets)
{
    lm_count_many(&e->counters, is_written ? LM_data_packets : LM_in_refused, packets);
    if (is_written)
        lm_count_many(&e->counters, LM_data_octets, octets);
}

/* Writes the joined packets in one call, or one by one if the kernel refuses that. */
static void flush(struct lm_engine *e, struct lm_coalesce *merge)
{
    if (merge->count == 0)
        return;
    size_t vectors = lm_coalesce_finish(merge), octets = merge->length + (merge->count - 1) * merge->header;
    bool is_written = lm_device_write_merged(e, e->merge_into, merge, vectors);
    if (is_written || merge->count == 1)
        count_written(e, is_written, merge->count, octets);
    for (size_t i = 0; !is_written && merge->count > 1 && i < merge->count; i++) {
        size_t length;
        const uint8_t *packet = lm_coalesce_packet(merge, i, &length);
        count_written(e, lm_device_write(e, e->merge_into, packet, length), 1, length);
    }
    merge->count = 0;
}

static void deliver(struct lm_engine *e, uint8_t *packet, const struct lm_inner *inner, struct lm_outer *outer)
{
    enum lm_strip_verdict verdict = lm_packet_strip(packet, inner, outer->ttl, outer->tos, e->config.copy_dscp);
    if (verdict == LM_STRIP_ECN || verdict == LM_STRIP_TTL) {
        lm_count(&e->counters, verdict == LM_STRIP_ECN ? LM_data_ecn_drop : LM_data_ttl);
        return;
    }
    if (verdict == LM_STRIP_ODD)
        lm_count(&e->counters, LM_data_ecn_odd);
    outer->has_delivered = true;
    outer->delivered++;
    outer->delivered_octets += inner->length;
    int into = lm_lane_into(e, outer->ifindex);
    if (e->has_vnet && e->merge.count && e->merge_into == into && lm_coalesce_join(&e->merge, packet, inner))
        return;
    flush(e, &e->merge);
    lm_vnet open;
    if (!e->has_vnet && lm_segment_reopen_vnet(&open, packet, inner)) {
        open.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        (void)lm_segment_complete_vnet(&open, packet, inner->length);
    }
    e->merge_into = into;
    lm_coalesce_start(&e->merge, packet, inner);
}

/* Handles one inner packet, which came in clear or was opened. */
static void accept_inner(struct lm_engine *e, uint8_t *packet, const struct lm_data *data, struct lm_outer *outer)
{
    if (!outer->opened_by) {
        enum lm_nested_mtu_verdict error = lm_nested_mtu_take(e->peers, packet, &data->inner, outer->now);
        if (error != LM_NESTED_OTHER) {
            lm_count(&e->counters, error == LM_NESTED_LEARNED ? LM_mtu_learned : LM_mtu_ignored);
            return;
        }
    }
    if (!is_accepted(e, packet, data, outer) || !lm_map_version_admits(e, data, outer))
        return;
    note_flags(e, data->flags);
    lm_status_bits_on_data(e, data, outer);
    lm_echo_nonce_on_data(e, data, outer);
    lm_data_port_stall_heard(e, outer);
    if (e->config.is_rtr && lm_rtr_take(e, packet, data, outer)) {
        outer->has_relayed = true;
        return;
    }
    deliver(e, packet, &data->inner, outer);
}

static void arrive_sealed(struct lm_engine *e, uint8_t *datagram, size_t length, struct lm_outer *outer)
{
    struct lm_data data;
    if (lm_sealed_in_open(e, datagram, length, outer, &data) &&
        !lm_sealed_in_take_word(e, datagram + LM_SEAL_HEAD, &data, outer))
        accept_inner(e, datagram + LM_SEAL_HEAD, &data, outer);
    outer->opened_by = NULL;
}

/*
 * Handles a sealed packet inside a packet that a relay has read. TTL and ECN of the path are in the header of the
 * packet around it.
 */
static void arrive_nested(struct lm_engine *e, uint8_t *packet, const struct lm_data *data, uint8_t *datagram,
                          size_t length, struct lm_outer *outer)
{
    enum lm_strip_verdict verdict = lm_packet_strip(packet, &data->inner, outer->ttl, outer->tos, e->config.copy_dscp);
    struct lm_inner between;
    uint8_t ttl = outer->ttl, tos = outer->tos;
    if (verdict == LM_STRIP_ECN || verdict == LM_STRIP_TTL || !lm_packet_parse(packet, data->inner.length, &between)) {
        lm_count(&e->counters, verdict == LM_STRIP_ECN ? LM_data_ecn_drop : LM_data_ttl);
        return;
    }
    outer->ttl = between.ttl;
    outer->tos = between.tos;
    arrive_sealed(e, datagram, length, outer);
    outer->ttl = ttl;
    outer->tos = tos;
}

static void arrive(struct lm_engine *e, uint8_t *datagram, size_t length, struct lm_outer *outer)
{
    static const enum lm_counter refusals[] = {
        [LM_DATA_SHORT] = LM_data_short, [LM_DATA_KEY] = LM_data_key, [LM_DATA_INNER] = LM_data_inner};
    struct lm_data data;
    if (outer->source_port == LM_PORT_CONTROL && outer->is_ephemeral) {
        lm_data_port_pass_bare(e, datagram, length, outer);
        return;
    }
    if (e->config.is_rtr && lm_lisp_header_holds_info(datagram, length)) {
        lm_data_port_pass_bare(e, datagram + LM_DATA_HEADER, length - LM_DATA_HEADER, outer);
        return;
    }
    if (length >= LM_DATA_HEADER && (datagram[0] & LM_FLAG_KK)) {
        size_t head;
        enum lm_dialect_verdict opened = lm_dialect_open(e, datagram, length, outer, &data, &head);
        if (opened == LM_DIALECT_OTHER)
            arrive_sealed(e, datagram, length, outer);
        else if (opened == LM_DIALECT_OPENED)
            accept_inner(e, datagram + head, &data, outer);
        return;
    }
    enum lm_data_verdict verdict = lm_lisp_header_parse(datagram, length, &data);
    uint8_t *packet = datagram + LM_DATA_HEADER;
    switch (verdict) {
    case LM_DATA_CONTROL:
        pass_control(e, packet, &data.inner, outer);
        return;
    case LM_DATA_OK:
        break;
    default:
        lm_count(&e->counters, refusals[verdict]);
        return;
    }
    const uint8_t *sealed;
    size_t octets = lm_sealed_in_nested(e, packet, &data, &sealed);
    if (octets)
        arrive_nested(e, packet, &data, packet + (sealed - packet), octets, outer);
    else
        accept_inner(e, packet, &data, outer);
}

/* Counts the delivered packets of a message for its locator or RTR. */
static void count_received(struct lm_engine *e, const struct lm_outer *outer)
{
    struct lm_remote *remote = lm_locator_find_remote(e->locators, &outer->source, LM_PORT_DATA);
    if (!remote) /* an RTR may get our data there */
        remote = lm_locator_find_remote(e->locators, &outer->source, LM_PORT_CONTROL);
    if (!remote)
        return;
    atomic_fetch_add_explicit(&remote->state->received, outer->delivered, memory_order_relaxed);
    atomic_fetch_add_explicit(&remote->state->received_octets, outer->delivered_octets, memory_order_relaxed);
}

/* Processes the datagrams of one message. */
static void arrive_all(struct lm_engine *e, uint8_t *octets, size_t length, struct lm_outer *outer)
{
    size_t step = outer->run && outer->run < length ? outer->run : length;
    if (lm_source_is_local(e, outer)) {
        lm_count_many(&e->counters, LM_data_local, step ? (length + step - 1) / step : 1);
        return;
    }
    for (size_t at = 0; at < length || at == 0; at += step) {
        arrive(e, octets + at, length - at < step ? length - at : step, outer);
        if (step == 0)
            break;
    }
    if (outer->has_delivered || outer->has_relayed || outer->has_opened)
        note_heard(e, outer);
    if (outer->has_delivered) {
        lm_traffic_gap_note(e, LM_INBOUND, outer->now);
        count_received(e, outer);
    }
    if (outer->has_delivered || outer->has_opened)
        lm_silence_on_heard(e, outer);
}

static bool is_further(const struct lm_engine *e, int fd)
{
    for (size_t i = 0; i < e->further_count; i++)
        if (e->further[i] == fd)
            return true;
    return false;
}

static void receive(struct lm_engine *e, int fd)
{
    static _Thread_local struct arrival arrivals[LM_BATCH];
    static _Thread_local struct mmsghdr messages[LM_BATCH];
    static _Thread_local size_t most = LM_BATCH;
    for (size_t i = 0; i < most; i++) {
        struct arrival *a = &arrivals[i];
        a->io = (struct iovec){e->in_frames.frame[i].packet, LM_PACKET_MAX};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &a->from,
                                              .msg_namelen = sizeof a->from,
                                              .msg_iov = &a->io,
                                              .msg_iovlen = 1,
                                              .msg_control = a->control.room,
                                              .msg_controllen = sizeof a->control.room};
    }
    /* Under the lock, because a descriptor that is no longer ours may be closed and reused. */
    lm_share(&e->lock);
    bool is_ephemeral = lm_uplinks_receives(e->uplinks, fd);
    bool is_at_control_port = is_further(e, fd);
    bool is_ours = is_ephemeral || is_at_control_port || fd == e->receive[0] || fd == e->receive[1];
    int count = is_ours ? recvmmsg(fd, messages, (unsigned)most, MSG_DONTWAIT, NULL) : 0;
    if (count <= 0) {
        lm_unshare(&e->lock);
        return;
    }
    uint64_t now = lm_clock_now();
    size_t octets = 0;
    for (int i = 0; i < count; i++) {
        const struct msghdr *m = &messages[i].msg_hdr;
        octets += messages[i].msg_len;
        if (m->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
            lm_count(&e->counters, LM_in_truncated);
            continue;
        }
        struct lm_outer outer;
        read_outer(m, &outer);
        outer.now = now;
        outer.is_ephemeral = is_ephemeral;
        outer.is_at_control_port = is_at_control_port;
        arrive_all(e, e->in_frames.frame[i].packet, messages[i].msg_len, &outer);
    }
    flush(e, &e->merge);
    if (e->config.is_rtr)
        lm_rtr_flush(e);
    lm_unshare(&e->lock);
    /* Reads fewer messages at once when runs are long, so that they are still in the cache when they are written. */
    if (octets > LM_BATCH_OCTETS)
        most = most > 8 ? most / 2 : 4;
    else if ((size_t)count == most)
        most = most < LM_BATCH / 2 ? most * 2 : LM_BATCH;
}

/* Reads an error of an uplink's socket, or a link event. A socket that is no longer in use is about to be closed. */
static void read_errors(struct lm_engine *e, int fd)
{
    lm_share(&e->lock);
    if (fd == e->watch)
        lm_link_watch_read(e, fd);
    else if (lm_uplinks_has_socket(e->uplinks, fd))
        lm_too_big_read(e, fd);
    lm_unshare(&e->lock);
}

void *lm_inbound_run(void *engine)
{
    struct lm_engine *e = engine;
    lm_sealed_out_set_thread(1);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(e->poll_in, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == e->stop)
                return NULL;
            bool receives =
                fd == e->receive[0] || fd == e->receive[1] ||
                ((events[i].events & EPOLLIN) && fd != atomic_load_explicit(&e->watch, memory_order_relaxed));
            if (receives)
                receive(e, fd);
            else
                read_errors(e, fd);
        }
    }
}
