#include "seal/session.h"

#include <stdlib.h>

struct lm_session *lm_session_new(const struct lm_session_spec *spec, uint64_t now)
{
    if (!lm_aead_is_built())
        return NULL;
    struct lm_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    if (spec->source_count && !(s->sources = calloc(spec->source_count, sizeof *s->sources))) {
        free(s);
        return NULL;
    }
    s->peer = spec->peer;
    s->local_index = spec->local_index;
    s->remote_index = spec->remote_index;
    s->instance_id = spec->instance_id;
    s->aead = spec->aead;
    s->key_id = LM_SEAL_KK;
    s->is_initiator = spec->is_confirmed;
    s->made_at = now;
    s->source_count = spec->source_count;
    memcpy(s->send_key, spec->send_key, sizeof s->send_key);
    memcpy(s->receive_key, spec->receive_key, sizeof s->receive_key);
    for (size_t i = 0; i < spec->source_count; i++)
        s->sources[i] = spec->sources[i];
    atomic_init(&s->slot, LM_SLOT_NONE);
    lm_replay_init(&s->replay);
    return s;
}

void lm_session_free(struct lm_session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < LM_SEAL_THREADS; i++) {
        lm_aead_free(session->sealers[i]);
        lm_aead_free(session->openers[i]);
    }
    explicit_bzero(session->send_key, sizeof session->send_key);
    explicit_bzero(session->receive_key, sizeof session->receive_key);
    explicit_bzero(session->integrity, sizeof session->integrity);
    free(session->sources);
    free(session);
}

bool lm_session_may_send(const struct lm_session *session, uint64_t now)
{
    return now - session->made_at < LM_SEAL_LIFE_NS &&
           atomic_load_explicit(&session->sent, memory_order_relaxed) < LM_SEAL_PACKETS_MAX;
}

bool lm_session_may_receive(const struct lm_session *session, uint64_t now)
{
    return session->dialect || now - session->made_at < LM_SEAL_LIFE_NS;
}

bool lm_session_is_rekey_due(const struct lm_session *session, uint64_t now)
{
    uint64_t age = now - session->made_at;
    if (!session->is_initiator)
        return age >= LM_SEAL_REKEY_RESPONDER_NS;
    return age >= LM_SEAL_REKEY_NS ||
           atomic_load_explicit(&session->sent, memory_order_relaxed) >= LM_SEAL_REKEY_PACKETS;
}

bool lm_session_take(struct lm_session *session, uint64_t count, uint64_t *first)
{
    *first = atomic_fetch_add_explicit(&session->sent, count, memory_order_relaxed);
    uint64_t most = session->dialect ? LM_DIALECT_PACKETS_MAX : LM_SEAL_PACKETS_MAX;
    return *first < most && count <= most - *first;
}

static struct lm_aead_context *context_of(struct lm_aead_context **place, uint8_t aead, const uint8_t *key, bool seals)
{
    if (!*place)
        *place = lm_aead_new(aead, key, seals);
    return *place;
}

static void put_iv(uint8_t *out, uint32_t index, uint64_t counter)
{
    lm_put32(out, index);
    lm_put32(out + 4, (uint32_t)(counter >> 32));
    lm_put32(out + 8, (uint32_t)counter);
}

size_t lm_session_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                       size_t count, uint8_t *out)
{
    struct lm_aead_context *context = context_of(&session->sealers[thread], session->aead, session->send_key, true);
    size_t octets = 0;
    for (size_t i = 0; i < count; i++)
        octets += parts[i].iov_len;
    uint8_t *iv = out + LM_DATA_HEADER;
    out[0] |= session->key_id;
    put_iv(iv, session->remote_index, counter);
    if (!context || !lm_aead_seal(context, iv, out, LM_SEAL_HEAD, parts, count, out + LM_SEAL_HEAD))
        return 0;
    return LM_SEAL_HEAD + octets + LM_AEAD_TAG;
}

uint32_t lm_session_index(const uint8_t *datagram)
{
    return lm_get32(datagram + LM_DATA_HEADER);
}

uint64_t lm_session_counter(const uint8_t *datagram)
{
    return lm_get64(datagram + LM_DATA_HEADER + 4);
}

enum lm_session_verdict lm_session_open(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length,
                                        uint64_t now)
{
    uint64_t counter = lm_session_counter(datagram);
    if (!lm_session_may_receive(session, now) || (!session->dialect && counter >= LM_SEAL_PACKETS_MAX))
        return LM_OPEN_KEY;
    if (!lm_replay_may(&session->replay, counter))
        return LM_OPEN_REPLAY;
    struct lm_aead_context *context = context_of(&session->openers[thread], session->aead, session->receive_key, false);
    if (!context)
        return LM_OPEN_KEY;
    if (!lm_aead_open(context, datagram + LM_DATA_HEADER, datagram, LM_SEAL_HEAD, datagram + LM_SEAL_HEAD,
                      length - LM_SEAL_HEAD))
        return LM_OPEN_TAG;
    if (!lm_replay_mark(&session->replay, counter))
        return LM_OPEN_REPLAY;
    atomic_store_explicit(&session->opened_at, now, memory_order_relaxed);
    atomic_fetch_add_explicit(&session->opened, 1, memory_order_relaxed);
    if (session->dialect)
        return LM_OPENED;
    uint32_t instance_id = datagram[0] & LM_FLAG_I ? lm_get32(datagram + 4) >> 8 : 0;
    return instance_id == session->instance_id ? LM_OPENED : LM_OPEN_IID;
}

bool lm_session_covers(const struct lm_session *session, const struct lm_addr *source)
{
    for (size_t i = 0; i < session->source_count; i++) {
        const struct lm_prefix *prefix = &session->sources[i];
        if (prefix->instance_id == session->instance_id && lm_address_in(source, &prefix->address, prefix->length))
            return true;
    }
    return false;
}
