/*
 * Sends many packets with few system calls. Packets from one socket to one remote leave in runs of datagrams of one
 * size. The kernel gets each run as one piece (UDP_SEGMENT), and all runs of a batch in one sendmmsg.
 *
 * The segments of a super-packet make a run. So do successive ordinary packets of equal length.
 */
#include <errno.h>
#include <linux/udp.h>

#include "base/cmsg.h"
#include "engine/outer.h"
#include "liveness/on_sent.h"

#define RUN_MAX 64u             /* datagrams in one piece (UDP_MAX_SEGMENTS of older kernels) */
#define RUN_OCTETS 65400u       /* less than the largest UDP payload */
#define RUN_MIN 4u              /* fewer ordinary packets leave one by one, without an outer checksum */
#define SEGMENT_HEADER_MAX 240u /* packets with longer headers are sent one by one */
#define VECTORS 1024u
#define HEADERS (64u << 10)

/* The contents of one message: ordinary jobs, or some segments of one super-packet. */
struct content {
    struct lm_job **jobs;
    size_t first, count, octets; /* segments or jobs; inner octets */
};

struct batch {
    size_t messages, vectors, headers, sealed;
    struct mmsghdr message[LM_BATCH];
    struct lm_outer_head head[LM_BATCH];
    struct content content[LM_BATCH];
    struct iovec vector[VECTORS];
    uint8_t header[HEADERS];
};

/* Keeps the packets until there is room; a super-packet stays one. */
static void hold(struct lm_engine *e, const struct content *content, int fd, bool has_event)
{
    const struct lm_job *job = content->jobs[0];
    if (job->segments.count == content->count) {
        lm_backpressure_add(e, job, fd, has_event);
        return;
    }
    for (size_t i = 0; i < content->count; i++) {
        struct lm_job segment = job->segments.count ? lm_send_segments(e, job, content->first + i) : *content->jobs[i];
        lm_backpressure_add(e, &segment, fd, has_event);
    }
}

static void refused(struct lm_engine *e, const struct content *content)
{
    struct lm_job *job = content->jobs[0];
    for (size_t i = 0; i < content->count; i++) {
        if (job->segments.count == 0) {
            lm_send(e, content->jobs[i]);
            continue;
        }
        struct lm_job segment = lm_send_segments(e, job, content->first + i);
        lm_send(e, &segment);
    }
}

/*
 * True when a refused run is worth a second try. A run needs its outer checksum, which our sockets leave out otherwise.
 * A device without checksum offload takes no runs.
 */
static bool may_try_again(struct lm_engine *e, int fd, const struct lm_job *job, int error)
{
    switch (error) {
    case EINVAL:
        return lm_send_sum_outer(job, fd);
    case EIO:
        atomic_store(&e->uplinks->paths[job->path - e->uplinks->paths].refuses_runs, true);
        return false;
    default:
        return false;
    }
}

/* Returns the size of the largest inner packet of a job, in octets. */
static size_t size_of(const struct lm_job *job)
{
    return job->segments.count ? job->segments.header + job->segments.size : job->inner.length;
}

/* Returns how many messages leave at once, from `done` on: receivers of single packets get them in portions. */
static size_t portion_of(const struct batch *batch, size_t done)
{
    const struct lm_job *job = batch->content[done].jobs[0];
    size_t left = batch->messages - done, count = 1;
    if (lm_job_copes(job))
        return left;
    while (count < left && count < LM_PORTION && batch->content[done + count].jobs[0]->remote == job->remote)
        count++;
    lm_pacing_pause(job, count);
    return count;
}

static void flush(struct lm_engine *e, struct batch *batch, int fd)
{
    bool is_second_try = false;
    for (size_t done = 0; done < batch->messages;) {
        if (e->backpressure.busy_count && lm_backpressure_has(e, batch->content[done].jobs[0], fd)) {
            hold(e, &batch->content[done++], fd, true);
            continue;
        }
        int n = lm_send_many(fd, batch->message + done, portion_of(batch, done), MSG_DONTWAIT | MSG_NOSIGNAL);
        int error = errno;
        if (n <= 0) {
            const struct content *content = &batch->content[done];
            bool is_run = content->count > 1;
            if (is_run && !is_second_try && may_try_again(e, fd, content->jobs[0], error)) {
                is_second_try = true;
                continue;
            }
            is_second_try = false;
            if ((error == EAGAIN || error == ENOBUFS || error == ENOMEM) && !content->jobs[0]->is_relayed) {
                hold(e, content, fd, error == EAGAIN);
                done++;
                continue;
            }
            refused(e, content); /* one by one */
            done++;
            continue;
        }
        is_second_try = false;
        for (size_t end = done + (size_t)n; done < end; done++) {
            const struct lm_job *first = batch->content[done].jobs[0];
            lm_on_sent(e, first, batch->content[done].count, batch->content[done].octets, size_of(first));
        }
    }
    batch->messages = batch->vectors = batch->headers = batch->sealed = 0;
}

/*
 * Begins a message of `count` datagrams of `size` octets each (the last may be shorter). Returns its `vectors` vectors.
 */
static struct iovec *begin(struct lm_engine *e, struct batch *batch, int fd, const struct content *content, size_t size,
                           size_t vectors, size_t headers)
{
    if (batch->messages == LM_BATCH || batch->vectors + vectors > VECTORS || batch->headers + headers > HEADERS)
        flush(e, batch, fd);
    struct msghdr *m = &batch->message[batch->messages].msg_hdr;
    lm_send_fill_outer(m, &batch->head[batch->messages], content->jobs[0], e->config.copy_dscp,
                       content->count > 1 ? size : 0);
    struct iovec *io = batch->vector + batch->vectors;
    m->msg_iov = io;
    LM_SET(m->msg_iovlen, vectors);
    batch->vectors += vectors;
    batch->content[batch->messages++] = *content;
    return io;
}

/* Seals one packet of a message. */
static size_t seal_one(struct lm_engine *e, const struct content *content, size_t index, uint64_t counter, uint8_t *out)
{
    const struct lm_job *job = content->jobs[0];
    uint8_t header[SEGMENT_HEADER_MAX];
    struct iovec parts[2];
    if (job->segments.count == 0) {
        job = content->jobs[index];
        parts[0] = (struct iovec){job->packet, job->inner.length};
        return lm_sealed_out_put(e, job, counter, parts, 1, out);
    }
    const struct lm_segments *s = &job->segments;
    size_t place = content->first + index;
    lm_segment_header(header, job->packet, &job->inner, s, place);
    parts[0] = (struct iovec){header, s->header};
    parts[1] = (struct iovec){job->packet + s->header + place * s->size, lm_segment_payload(s, &job->inner, place)};
    return lm_sealed_out_put(e, job, counter, parts, 2, out);
}

/*
 * Seals the packets of a message one by one into one buffer, which the kernel cuts again. `size`: of all packets but
 * the last, in octets.
 */
static void add_sealed(struct lm_engine *e, struct batch *batch, int fd, const struct content *content, size_t size)
{
    uint64_t counter;
    if (batch->sealed + content->count * size > LM_SEALED_ROOM)
        flush(e, batch, fd);
    uint8_t *start = lm_sealed_out_room(e) + batch->sealed, *out = start;
    if (!lm_sealed_out_take(e, content->jobs[0], content->count, &counter))
        return;
    for (size_t i = 0; i < content->count; i++) {
        size_t octets = seal_one(e, content, i, counter + i, out);
        if (octets == 0) /* libcrypto is out of memory: the rest is dropped too */
            return;
        out += octets;
    }
    struct iovec *io = begin(e, batch, fd, content, size, 1, 0);
    io[0] = (struct iovec){start, (size_t)(out - start)};
    batch->sealed = (size_t)(out - lm_sealed_out_room(e));
}

static void add_segments(struct lm_engine *e, struct batch *batch, int fd, struct lm_job **job_at)
{
    struct lm_job *job = *job_at;
    const struct lm_segments *s = &job->segments;
    size_t datagram = LM_DATA_HEADER + s->header + s->size + lm_job_seal_octets(job), most = RUN_OCTETS / datagram;
    most = !lm_job_copes(job) ? 1 : most > RUN_MAX ? RUN_MAX : most;
    for (size_t first = 0, count; first < s->count; first += count) {
        count = s->count - first < most ? s->count - first : most;
        struct content content = {.jobs = job_at, .first = first, .count = count};
        for (size_t i = first; i < first + count; i++)
            content.octets += s->header + lm_segment_payload(s, &job->inner, i);
        if (job->seal) {
            add_sealed(e, batch, fd, &content, datagram);
            continue;
        }
        size_t header = LM_DATA_HEADER + s->header;
        struct iovec *io = begin(e, batch, fd, &content, datagram, 2 * count, header * count);
        for (size_t i = first; i < first + count; i++, io += 2) {
            uint8_t *at = batch->header + batch->headers;
            size_t payload = lm_segment_payload(s, &job->inner, i);
            lm_send_put_lisp_header(e, job, at);
            lm_segment_header(at + LM_DATA_HEADER, job->packet, &job->inner, s, i);
            io[0] = (struct iovec){at, header};
            io[1] = (struct iovec){job->packet + s->header + i * s->size, payload};
            batch->headers += header;
        }
    }
}

/* Returns how many of the jobs can be in one run with the first. */
static size_t run_of(struct lm_job *const *jobs, size_t count)
{
    const struct lm_job *first = jobs[0];
    size_t size = first->inner.length, n = 1;
    size_t most = RUN_OCTETS / (size + LM_DATA_HEADER + lm_job_seal_octets(first));
    if (atomic_load_explicit(&first->path->refuses_runs, memory_order_relaxed) || !lm_job_copes(first))
        return 1;
    most = most > RUN_MAX ? RUN_MAX : most;
    for (; n < count && n < most; n++) {
        const struct lm_job *next = jobs[n];
        if (next->segments.count || next->remote != first->remote || next->path != first->path ||
            next->seal != first->seal || next->is_nested != first->is_nested ||
            (first->is_nested && next->inner.version != first->inner.version) || next->inner.ttl != first->inner.ttl ||
            next->inner.tos != first->inner.tos || next->inner.length > size)
            break;
        if (next->inner.length < size) {
            n++; /* a shorter one ends the run */
            break;
        }
    }
    return n < RUN_MIN ? 1 : n;
}

static size_t add_run(struct lm_engine *e, struct batch *batch, int fd, struct lm_job **jobs, size_t count)
{
    struct content content = {.jobs = jobs, .count = run_of(jobs, count)};
    size_t size = jobs[0]->inner.length + LM_DATA_HEADER + lm_job_seal_octets(jobs[0]);
    for (size_t i = 0; i < content.count; i++)
        content.octets += jobs[i]->inner.length;
    if (jobs[0]->seal) {
        add_sealed(e, batch, fd, &content, size);
        return content.count;
    }
    struct iovec *io = begin(e, batch, fd, &content, size, content.count, 0);
    for (size_t i = 0; i < content.count; i++) {
        uint8_t *datagram = jobs[i]->packet - LM_DATA_HEADER;
        lm_send_put_lisp_header(e, jobs[i], datagram);
        io[i] = (struct iovec){datagram, jobs[i]->inner.length + LM_DATA_HEADER};
    }
    return content.count;
}

/*
 * Sends the jobs that have socket and kind of receiver in common with the first one. Returns how many jobs are left,
 * moved to the front.
 */
static size_t send_group(struct lm_engine *e, struct lm_job **jobs, size_t count)
{
    static _Thread_local struct batch batch;
    struct lm_job *group[LM_BATCH];
    int fd = lm_send_socket(jobs[0]);
    bool copes = lm_job_copes(jobs[0]);
    size_t size = 0, left = 0;
    for (size_t i = 0; i < count; i++) {
        if (lm_send_socket(jobs[i]) == fd && lm_job_copes(jobs[i]) == copes)
            group[size++] = jobs[i];
        else
            jobs[left++] = jobs[i];
    }
    lm_send_unsum_outer(e, group[0], fd);
    for (size_t i = 0; !copes && i < size; i++)
        if (!group[i]->is_relayed)
            lm_pacing_note(e, group[i]);
    for (size_t i = 0; i < size;) {
        if (group[i]->segments.count)
            add_segments(e, &batch, fd, &group[i++]);
        else
            i += add_run(e, &batch, fd, group + i, size - i);
    }
    flush(e, &batch, fd);
    return left;
}

/* True when the job fits the path unchanged. All other jobs are sent one by one. */
static bool is_easy(const struct lm_job *job)
{
    const struct lm_segments *s = &job->segments;
    if (!job->path || job->copy.path || (job->seal && !lm_dialect_is_even(job->seal)))
        return false;
    if (s->count == 0)
        return job->inner.length <= lm_send_room(job);
    /* A run holds one segment at least. */
    return s->header <= SEGMENT_HEADER_MAX && s->header + s->size <= lm_send_room(job) &&
           LM_DATA_HEADER + s->header + s->size + lm_job_seal_octets(job) <= RUN_OCTETS &&
           !atomic_load_explicit(&job->path->refuses_runs, memory_order_relaxed);
}

void lm_batch_send(struct lm_engine *e, struct lm_job **jobs, size_t count)
{
    size_t easy = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_easy(jobs[i]))
            jobs[easy++] = jobs[i];
        else
            lm_send(e, jobs[i]);
    }
    while (easy > 0)
        easy = send_group(e, jobs, easy);
}
