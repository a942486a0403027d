#include "liveness/pacing.h"

#include <netinet/in.h>
#include <sched.h>
#include <time.h>

#include "engine/engine.h"

#define MANY 50u   /* 1 segment of so many repeated: the interval grows */
#define FEW 200u   /* fewer than 1 of so many: it shrinks */
#define CREDIT 32u /* packets that may leave at once after a pause: the kernel wakes a thread late */

void lm_pacing_count(struct lm_pacing *pacing, uint32_t segments, bool is_repeated)
{
    pacing->sent += segments;
    pacing->repeated += is_repeated ? segments : 0;
    if (pacing->sent < LM_PACING_WINDOW)
        return;
    uint32_t interval = pacing->interval_ns;
    if (pacing->repeated * MANY > pacing->sent)
        interval = interval ? interval + interval / 8 : LM_INTERVAL_MIN_NS;
    else if (pacing->repeated * FEW < pacing->sent)
        interval -= interval / 32;
    if (interval < LM_INTERVAL_MIN_NS)
        interval = 0;
    pacing->interval_ns = interval < LM_INTERVAL_MAX_NS ? interval : LM_INTERVAL_MAX_NS;
    pacing->sent = pacing->repeated = 0;
}

uint64_t lm_pacing_wait_ns(struct lm_pacing *pacing, uint64_t now, size_t packets)
{
    uint64_t credit = (uint64_t)CREDIT * pacing->interval_ns, due = pacing->due;
    if (pacing->interval_ns == 0)
        return 0;
    if (due + credit < now)
        due = now - credit;
    pacing->due = due + packets * pacing->interval_ns;
    return due > now ? due - now : 0;
}

bool lm_pacing_read(struct lm_paced_flow *flows, uint32_t flow, const uint8_t *packet, const struct lm_inner *inner,
                    bool *is_repeated)
{
    if (inner->protocol != IPPROTO_TCP || inner->is_fragment || inner->length < inner->header + 20u)
        return false;
    const uint8_t *tcp = packet + inner->header;
    size_t header = inner->header + (size_t)(tcp[12] >> 4) * 4;
    if (inner->length <= header)
        return false;
    uint32_t first = lm_get32(tcp + 4), next = first + (uint32_t)(inner->length - header);
    struct lm_paced_flow *known = &flows[flow % LM_PACED_FLOWS];
    *is_repeated = known->flow == flow && (int32_t)(first - known->next) < 0;
    if (!*is_repeated)
        *known = (struct lm_paced_flow){flow, next};
    return true;
}

void lm_pacing_note(struct lm_engine *e, const struct lm_job *job)
{
    bool is_repeated;
    if (lm_pacing_read(e->paced_flows, (uint32_t)job->flow, job->packet, &job->inner, &is_repeated))
        lm_pacing_count(&job->remote->pacing, job->segments.count ? (uint32_t)job->segments.count : 1, is_repeated);
}

void lm_pacing_pause(const struct lm_job *job, size_t packets)
{
    uint64_t wait = job->is_relayed ? 0 : lm_pacing_wait_ns(&job->remote->pacing, lm_clock_now(), packets);
    struct timespec time = {0, (long)wait};
    if (wait)
        nanosleep(&time, NULL);
    else if (packets >= LM_PORTION)
        sched_yield();
}
