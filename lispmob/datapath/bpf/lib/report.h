/* Decides which packets the tun tier must see for its reports: unanswered data, a suspect path, the end of a pause. */
#ifndef LM_REPORT_H
#define LM_REPORT_H

#include "lib/maps.h"

/* Rate limit: one packet in ASK_AGAIN_NS is enough to wake the tun tier for a report. */
static __always_inline bool asks(struct lm_silence *silence, __u64 now)
{
    if (now < silence->asked_at + ASK_AGAIN_NS)
        return false;
    silence->asked_at = now;
    return true;
}

/* The result of the silence check: nothing to do, the packet waits for an answer too, or the tun tier must see it. */
enum meaning { MEANS_NOTHING, MEANS_WAITING, MEANS_A_REPORT };

static __always_inline enum meaning meaning_of(struct lm_shared_state *s, struct lm_silence *silence, __u64 now)
{
    if (!silence)
        return MEANS_NOTHING;
    __u64 quick = silence->quick, since = silence->since, heard = silence->heard, at = s->silence_at;
    if (quick == 0 || since == LM_SILENCE_REPORTED)
        return MEANS_NOTHING;
    bool is_flowing = lm_rules_is_flowing(since ? since : now, heard, quick);
    if (since && now >= since + (is_flowing ? quick : silence->slow))
        return asks(silence, now) ? MEANS_A_REPORT : MEANS_NOTHING;
    if (since && silence->octets >= LM_SILENCE_OCTETS)
        return MEANS_NOTHING;
    /*
     * Silence after two-way traffic is also detected by timeout. If the tun tier's thread is not due to wake in time, pass
     * it this packet.
     */
    if (is_flowing && !(at != 0 && at <= now + quick))
        return asks(silence, now) ? MEANS_A_REPORT : MEANS_NOTHING;
    return MEANS_WAITING;
}

static __always_inline void count_waiting(struct lm_silence *silence, __u64 now, __u32 length)
{
    silence->octets = silence->since ? silence->octets + length : length;
    if (silence->since == 0)
        silence->since = now;
}

/*
 * A peer that may not accept partial checksums and runs gets complete packets from the tun tier, which also asks it
 * (peer_check.h).
 */
static __always_inline bool is_for_check(struct lm_remote_state *remote, __u64 now)
{
    __u64 coped_at = remote->coped_at;
    return !coped_at || now >= coped_at + LM_COPES_NS || now >= remote->check_at;
}

/* True when the thread that reports is due soon to check this locator (liveness/silence.c). */
static __always_inline bool is_looked_at(struct lm_shared_state *s, struct lm_remote_state *remote, __u64 now)
{
    __u64 at = s->silence_at;
    return remote->silence.quick && at && at <= now + LM_LARGE_LOOK_NS && now <= at + LM_LARGE_LOOK_NS;
}

/* True when a large packet must go to the tun tier, which has not reported one lately (liveness/path_mtu.c). */
static __always_inline bool is_large_news(struct lm_shared_state *s, struct lm_remote_state *remote, __u32 path,
                                          __u64 now)
{
    __u32 bit = 1u << path % LM_SHARED_PATHS;
    if (!(remote->large_paths & bit))
        remote->large_paths |= bit;
    if (now < remote->large_at)
        return false;
    if (is_looked_at(s, remote, now)) {
        remote->large_seen = now;
        return false;
    }
    remote->large_at = now + LM_LARGE_ASK_NS; /* until then the thread has perhaps not run */
    return true;
}

/* True when the tun tier must get this packet for one of its reports. */
static __always_inline bool is_for_report(struct lm_shared_state *s, __u32 path, __u32 number, bool is_whole, __u64 now,
                                          __u32 length, bool is_large)
{
    struct lm_remote_state *remote = bpf_map_lookup_elem(&remotes, &number);
    if (s->traffic[0].is_watched || s->suspect[path % LM_SHARED_PATHS] || !remote)
        return true;
    if (!is_whole && is_for_check(remote, now))
        return true;
    if (remote->echo.asked || (remote->echo.copies && now < remote->echo.until))
        return true;
    if (is_large && s->reports_large && is_large_news(s, remote, path, now))
        return true;
    struct lm_silence *own = &remote->silence, *group = group_of(remote);
    enum meaning for_own = meaning_of(s, own, now), for_all = meaning_of(s, group, now);
    if (for_own == MEANS_A_REPORT || for_all == MEANS_A_REPORT)
        return true;
    if (for_own == MEANS_WAITING)
        count_waiting(own, now, length);
    if (group && for_all == MEANS_WAITING)
        count_waiting(group, now, length);
    return false;
}

/*
 * Checks that packets to relays are answered; true: the tun tier gets the packet, and reports a long wait. It also gets
 * the first packet after a pause: if no packet follows, only a timer shows how long it stays unanswered.
 */
static __always_inline bool waits_in_vain(struct lm_shared_state *s, __u32 path, __u64 now)
{
    __u64 since = s->unanswered[path % LM_SHARED_PATHS];
    if (since == LM_STALL_REPORTED)
        return false;
    if (since)
        return now >= since + LM_STALL_NS;
    if (now >= s->traffic[0].last + LM_STALL_NS)
        return true;
    s->unanswered[path % LM_SHARED_PATHS] = now;
    return false;
}

#endif
