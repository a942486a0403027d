#include "engine/explain.h"

#include "engine/engine.h"

static int verdict_of(enum lm_counter why)
{
    return why == LM_out_source ? LM_FLOW_SOURCE : why == LM_out_guard ? LM_FLOW_GUARDED : LM_FLOW_NOT_LISP;
}

static int verdict_of_entry(const struct lm_entry *entry)
{
    if (!entry || entry->kind == LM_MISS)
        return LM_FLOW_MISS;
    switch (entry->kind) {
    case LM_ENCAPSULATE:
    case LM_ENCAPSULATE_AND_REPORT:
        return LM_FLOW_SENT;
    case LM_DOUBT:
        return LM_FLOW_DOUBT;
    case LM_NATIVE:
        return LM_FLOW_NATIVE;
    case LM_PROHIBIT:
        return LM_FLOW_PROHIBIT;
    default:
        return LM_FLOW_DROP;
    }
}

/* Chooses uplink and remote of a packet. */
static void choose(struct lm_engine *e, struct lm_job *job, struct lm_answer *answer)
{
    answer->by_mark = lm_lane_choose(e, job);
    if (!answer->by_mark) {
        if (job->lane != LM_LANE_DEFAULT && e->drops_unusable) {
            answer->verdict = LM_FLOW_MARK;
            return;
        }
        lm_outbound_choose(e, job);
    }
    if (!job->path) {
        bool may_wait = e->uplinks->families == 0 && lm_locator_choose(job->set, LM_V4 | LM_V6, job->flow);
        answer->verdict = may_wait ? LM_FLOW_NO_UPLINK : LM_FLOW_NO_LOCATOR;
        return;
    }
    answer->ifindex = job->path->ifindex;
    answer->copy_ifindex = job->copy.path ? job->copy.path->ifindex : 0;
    answer->local = job->remote->source.family ? job->remote->source : job->path->address;
    answer->remote = answer->mapped = job->remote->address;
    answer->port = job->remote->port;
    const struct lm_remote *mapped = lm_locator_choose(job->set, lm_family_bit(job->path->address.family), job->flow);
    answer->is_relayed = job->path->relays && lm_locator_set_holds(job->path->relays, &job->remote->address);
    if (answer->is_relayed && mapped)
        answer->mapped = mapped->address;
}

/* Decides as lm_sealed_out_admit() does; false: the packet is not sent. */
static bool admit(struct lm_engine *e, struct lm_job *job, struct lm_answer *answer)
{
    const struct lm_locator_set *set = job->set;
    job->seal = set->wish.peer ? lm_peers_sender(e->peers, set->wish.peer, lm_clock_now()) : NULL;
    if (job->seal)
        answer->seal = LM_ANSWER_SEALED;
    else if (set->wish.must_seal)
        answer->seal = set->wish.peer ? LM_ANSWER_WAITS : LM_ANSWER_UNSEALED;
    return job->seal || !set->wish.must_seal;
}

void lm_explain(struct lm_engine *e, const struct lm_question *question, struct lm_answer *answer)
{
    *answer = (struct lm_answer){.verdict = LM_FLOW_SENT};
    struct lm_job job = {.lane = question->lane};
    job.inner = (struct lm_inner){.source = question->source,
                                  .destination = question->destination,
                                  .version = question->destination.family,
                                  .ttl = 64,
                                  .protocol = question->protocol,
                                  .has_ports = question->has_ports,
                                  .source_port = question->source_port,
                                  .destination_port = question->destination_port};
    lm_share(&e->lock);
    enum lm_counter why;
    if (!lm_outbound_admits(e, &job, &why)) {
        answer->verdict = verdict_of(why);
    } else {
        job.flow = answer->flow = lm_packet_flow_hash(&e->key, &job.inner);
        const struct lm_entry *entry = lm_table_lookup(e->table, job.instance_id, &job.inner.destination);
        answer->verdict = verdict_of_entry(entry);
        answer->has_entry = entry != NULL;
        if (entry)
            answer->entry = (struct lm_prefix){entry->instance_id, entry->length, entry->address};
        if (answer->verdict == LM_FLOW_SENT || answer->verdict == LM_FLOW_DOUBT) {
            job.set = entry->value;
            if (!admit(e, &job, answer))
                answer->verdict = LM_FLOW_NO_KEY;
            else
                choose(e, &job, answer);
            if (job.seal && job.seal->dialect)
                answer->seal = job.seal->dialect == LM_DIALECT_RFC8061 ? LM_ANSWER_RFC8061 : LM_ANSWER_LISPERS;
        }
    }
    lm_unshare(&e->lock);
}
