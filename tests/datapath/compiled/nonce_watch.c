#include "nonce_watch.h"

#include <errno.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seal/dialect.h"

#define PLACES (1u << 20)
#define MOST (PLACES / 2)
#define IV_MAX 16u
#define BURST 3u /* the engine tries a refused message again at once */
#define EVERY 16u

struct used {
    uint8_t key[LM_AEAD_KEY], iv[IV_MAX];
    bool is_taken;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct used places[PLACES];
static unsigned long sealed;
static atomic_bool refuses;
static atomic_uint messages;
static atomic_ulong runs;

static void fail(const char *why)
{
    fprintf(stderr, "%s\n", why);
    abort();
}

static size_t place_of(const struct used *wanted)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof wanted->key + sizeof wanted->iv; i++)
        hash = (hash ^ (i < sizeof wanted->key ? wanted->key[i] : wanted->iv[i - sizeof wanted->key])) *
               UINT64_C(0x100000001b3);
    return (hash ^ hash >> 32) % PLACES;
}

static void note(const struct lm_session *session, const uint8_t *datagram)
{
    struct used wanted = {.is_taken = true};
    memcpy(wanted.key, session->send_key, sizeof wanted.key);
    memcpy(wanted.iv, datagram + LM_DATA_HEADER, session->dialect == LM_DIALECT_LISPERS_2 ? IV_MAX : LM_SEAL_IV);
    pthread_mutex_lock(&lock);
    size_t place = place_of(&wanted);
    for (; places[place].is_taken; place = (place + 1) % PLACES)
        if (!memcmp(places[place].key, wanted.key, sizeof wanted.key) &&
            !memcmp(places[place].iv, wanted.iv, sizeof wanted.iv))
            fail("a key has sealed twice with one IV");
    places[place] = wanted;
    if (++sealed > MOST)
        fail("more packets than there is room for");
    pthread_mutex_unlock(&lock);
}

unsigned long nonce_watch_sealed(void)
{
    pthread_mutex_lock(&lock);
    unsigned long count = sealed;
    pthread_mutex_unlock(&lock);
    return count;
}

unsigned long nonce_watch_runs(void)
{
    return atomic_load(&runs);
}

void nonce_watch_refuse(bool wanted)
{
    atomic_store(&refuses, wanted);
}

size_t __real_lm_session_seal(struct lm_session *, unsigned, uint64_t, const struct iovec *, size_t, uint8_t *);
size_t __wrap_lm_session_seal(struct lm_session *, unsigned, uint64_t, const struct iovec *, size_t, uint8_t *);
size_t __real_lm_dialect_seal(struct lm_session *, unsigned, uint64_t, const struct iovec *, size_t, uint8_t *);
size_t __wrap_lm_dialect_seal(struct lm_session *, unsigned, uint64_t, const struct iovec *, size_t, uint8_t *);
ssize_t __real_sendmsg(int, const struct msghdr *, int);
ssize_t __wrap_sendmsg(int, const struct msghdr *, int);
long __real_syscall(long, ...);
long __wrap_syscall(long, ...);

size_t __wrap_lm_session_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                              size_t count, uint8_t *out)
{
    size_t octets = __real_lm_session_seal(session, thread, counter, parts, count, out);
    if (octets && !session->dialect)
        note(session, out);
    return octets;
}

size_t __wrap_lm_dialect_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                              size_t count, uint8_t *out)
{
    size_t octets = __real_lm_dialect_seal(session, thread, counter, parts, count, out);
    if (octets)
        note(session, out);
    return octets;
}

static bool is_refused(void)
{
    static const int errors[] = {EAGAIN, ENOBUFS, ENETUNREACH, EMSGSIZE, EINVAL};
    unsigned number = atomic_fetch_add(&messages, 1);
    if (!atomic_load(&refuses) || number % EVERY >= BURST)
        return false;
    errno = errors[number / EVERY % (sizeof errors / sizeof *errors)];
    return true;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    return is_refused() ? -1 : __real_sendmsg(fd, message, flags);
}

static bool is_run(const struct mmsghdr *message)
{
    struct msghdr copy = message->msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT)
            return true;
    return false;
}

/* The engine calls sendmmsg(2) by its number (base/cmsg.h). */
long __wrap_syscall(long number, ...)
{
    va_list given;
    long a[6];
    va_start(given, number);
    for (size_t i = 0; i < 6; i++)
        a[i] = va_arg(given, long);
    va_end(given);
    const struct mmsghdr *sent = number == SYS_sendmmsg ? (const struct mmsghdr *)a[1] : NULL;
    for (long i = 0; sent && i < a[2]; i++)
        atomic_fetch_add(&runs, is_run(sent + i));
    if (sent && is_refused())
        return -1;
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
