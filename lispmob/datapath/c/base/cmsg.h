/*
 * msghdr and cmsghdr for glibc and musl. In glibc, lengths have the types of the kernel. In musl they have the types of
 * POSIX, with padding in between that the kernel reads. So set fields by name, and zero the rest.
 */
#ifndef LM_CMSG_H
#define LM_CMSG_H

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Assigns a length to a member of either type; all our lengths fit the smaller one. */
#define LM_SET(member, length) ((member) = (__typeof__(member))(length))

/* Writes a control message; returns its size. */
static inline size_t lm_control_put(uint8_t *room, int level, int type, const void *value, size_t size)
{
    struct cmsghdr *c = (struct cmsghdr *)(void *)room;
    *c = (struct cmsghdr){.cmsg_level = level, .cmsg_type = type};
    LM_SET(c->cmsg_len, CMSG_LEN(size));
    memcpy(CMSG_DATA(c), value, size);
    return CMSG_SPACE(size);
}

static inline struct cmsghdr *lm_control_next(const struct msghdr *m, struct cmsghdr *c)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* inside musl's macro */
    return CMSG_NXTHDR((struct msghdr *)(uintptr_t)m, c);
#pragma GCC diagnostic pop
}

/* sendmmsg(2). musl implements it as a loop of sendmsg(2), which costs one system call a message. */
static inline int lm_send_many(int fd, struct mmsghdr *messages, size_t count, int flags)
{
    return (int)syscall(SYS_sendmmsg, fd, messages, (unsigned)count, flags);
}

#endif
