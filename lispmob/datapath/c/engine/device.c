/* Reads from and writes to the TUN device, with struct virtio_net_hdr before each packet if it was opened so. */
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/engine.h"

ssize_t lm_device_read(struct lm_engine *e, int fd, struct lm_frame *frame)
{
    struct iovec parts[] = {{&frame->vnet, sizeof frame->vnet}, {frame->packet, LM_PACKET_MAX}};
    size_t head = e->has_vnet ? sizeof frame->vnet : 0;
    frame->vnet = (lm_vnet){0};
    for (;;) {
        ssize_t n = head ? readv(fd, parts, 2) : read(fd, frame->packet, LM_PACKET_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        frame->length = (size_t)n < head ? 0 : (size_t)n - head;
        return n;
    }
}

bool lm_device_write(struct lm_engine *e, int fd, const uint8_t *packet, size_t length)
{
    lm_vnet plain = {0};
    struct iovec parts[] = {{&plain, sizeof plain}, {(void *)(uintptr_t)packet, length}};
    return (e->has_vnet ? writev(fd, parts, 2) : write(fd, packet, length)) >= 0;
}

bool lm_device_write_merged(struct lm_engine *e, int fd, const struct lm_coalesce *merge, size_t vectors)
{
    size_t skipped = e->has_vnet ? 0 : 1;
    return writev(fd, merge->vector + skipped, (int)(vectors - skipped)) >= 0;
}
