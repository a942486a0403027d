#include "seal/sealed_in.h"

#include <netinet/in.h>

#include "engine/engine.h"
#include "seal/sealed_out.h"

#define UDP_HEADER 8u

static void confirm(struct lm_engine *e, struct lm_session *session)
{
    if (!lm_peers_confirm(e->peers, session))
        return;
    struct lm_punt report = {
        .kind = LM_PUNT_SEAL_CONFIRMED, .peer = session->peer, .local_index = session->local_index};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
    lm_sealed_out_wake(e);
}

/* Records the outer source. It proves nothing, but a new one may be the new locator of the peer. */
static void note_outer(struct lm_engine *e, const struct lm_session *session, const struct lm_outer *outer)
{
    struct lm_peer *peer = lm_peers_find(e->peers, session->peer);
    for (size_t i = 0; peer && i < 2; i++)
        if (peer->outer_port[i] == outer->source_port && lm_addr_equal(&peer->outer[i], &outer->source))
            return;
    if (!peer)
        return;
    bool is_other = peer->outer[0].family != 0;
    if (is_other && !lm_peers_may_report(e->peers->moved_at, peer->number, outer->now))
        return; /* the next packet shows it again */
    peer->outer[1] = peer->outer[0];
    peer->outer_port[1] = peer->outer_port[0];
    peer->outer[0] = outer->source;
    peer->outer_port[0] = outer->source_port;
    struct lm_punt report = {.kind = LM_PUNT_SEALED_FROM,
                             .peer = peer->number,
                             .outer_source = outer->source,
                             .outer_source_port = outer->source_port,
                             .outer_destination = outer->destination};
    if (is_other)
        (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

bool lm_sealed_in_open(struct lm_engine *e, uint8_t *datagram, size_t length, struct lm_outer *outer,
                       struct lm_data *data)
{
    static const enum lm_counter refusals[] = {[LM_OPEN_KEY] = LM_data_key,
                                               [LM_OPEN_REPLAY] = LM_data_replay,
                                               [LM_OPEN_TAG] = LM_data_tag,
                                               [LM_OPEN_IID] = LM_data_iid};
    if (length < LM_SEAL_MIN) {
        lm_count(&e->counters, LM_data_short);
        return false;
    }
    bool is_kind = (datagram[0] & LM_FLAG_KK) == LM_SEAL_KK;
    struct lm_session *session = is_kind ? lm_peers_find_session(e->peers, lm_session_index(datagram)) : NULL;
    enum lm_session_verdict verdict =
        session ? lm_session_open(session, lm_sealed_out_thread(), datagram, length, outer->now) : LM_OPEN_KEY;
    if (verdict != LM_OPENED) {
        lm_count(&e->counters, refusals[verdict]);
        return false;
    }
    confirm(e, session);
    note_outer(e, session, outer);
    outer->has_opened = true;
    outer->opened_by = session;
    *data = (struct lm_data){.flags = datagram[0],
                             .nonce = lm_get32(datagram) & 0xffffff,
                             .second = lm_get32(datagram + 4),
                             .instance_id = session->instance_id};
    if (length == LM_SEAL_MIN) {
        lm_count(&e->counters, LM_data_keepalive);
        return false;
    }
    bool is_packet = lm_packet_parse(datagram + LM_SEAL_HEAD, length - LM_SEAL_MIN, &data->inner);
    if (!is_packet)
        lm_count(&e->counters, LM_data_inner);
    return is_packet;
}

void lm_sealed_in_clear(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer)
{
    const struct lm_entry *entry = lm_table_lookup(e->table, data->instance_id, &data->inner.source);
    const struct lm_locator_set *set = entry ? entry->value : NULL;
    struct lm_punt report = {.kind = LM_PUNT_CLEAR_HEARD, .peer = set ? set->wish.peer : 0};
    if (!report.peer)
        lm_source_ask(e, data, outer);
    else if (lm_peers_may_report(e->peers->clear_at, report.peer, outer->now))
        (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

size_t lm_sealed_in_nested(const struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                           const uint8_t **datagram)
{
    const struct lm_inner *inner = &data->inner;
    if (inner->protocol != IPPROTO_UDP || inner->is_fragment || !inner->has_ports ||
        inner->destination_port != LM_PORT_DATA || inner->source_port != LM_PORT_DATA)
        return 0;
    const uint8_t *udp = packet + inner->header;
    size_t octets = lm_get16(udp + 4);
    const struct lm_entry *own = lm_table_lookup(e->eids, 0, &inner->destination);
    if (octets <= UDP_HEADER || octets > inner->length - inner->header ||
        (udp[UDP_HEADER] & LM_FLAG_KK) != LM_SEAL_KK || !own || (uint32_t)(uintptr_t)own->value != data->instance_id)
        return 0;
    *datagram = udp + UDP_HEADER;
    return octets - UDP_HEADER;
}

#define WORDS_PER_SECOND 100
#define WORDS_BURST 100
#define MAP_NOTIFY 4u
#define MAP_NOTIFY_ACK 5u

bool lm_sealed_in_take_word(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                            const struct lm_outer *outer)
{
    const struct lm_inner *inner = &data->inner;
    if (e->config.is_proxy || inner->protocol != IPPROTO_UDP || inner->is_fragment || !inner->has_ports ||
        inner->source_port != LM_PORT_CONTROL || inner->destination_port != LM_PORT_CONTROL ||
        inner->length <= inner->header + UDP_HEADER)
        return false;
    const uint8_t *payload = packet + inner->header + UDP_HEADER;
    size_t octets = lm_get16(packet + inner->header + 4);
    const struct lm_entry *own = lm_table_lookup(e->eids, 0, &inner->destination);
    bool is_kind = payload[0] >> 4 == MAP_NOTIFY || payload[0] >> 4 == MAP_NOTIFY_ACK;
    if (!is_kind || octets <= UDP_HEADER || octets > inner->length - inner->header || !own ||
        (uint32_t)(uintptr_t)own->value != data->instance_id ||
        !lm_peers_may_send(e->peers, outer->opened_by, &inner->source))
        return false;
    struct lm_punt report = {.kind = LM_PUNT_ANNOUNCED,
                             .peer = outer->opened_by->peer,
                             .instance_id = data->instance_id,
                             .source = inner->source,
                             .destination = inner->destination};
    if (!lm_token_bucket_take(&e->words_bucket, outer->now, WORDS_PER_SECOND, WORDS_BURST))
        lm_count(&e->counters, LM_data_control_limited);
    else if (lm_punt_put(&e->punts, &report, payload, octets - UDP_HEADER))
        lm_count(&e->counters, LM_data_control);
    return true;
}
