/*
 * Sorts the packets of a multi-queue TUN into queues by mark. read() does not return the mark, so the queue identifies
 * it.
 *
 * The program is a chain of comparisons in eBPF (type socket filter, no map, no helper), loaded directly with bpf(2).
 */
#ifndef LM_MARK_STEERING_H
#define LM_MARK_STEERING_H

#include <stddef.h>
#include <stdint.h>

#define LM_STEER_MAX 255 /* queues of a TUN: 256 */

struct lm_steer {
    uint32_t mark; /* after masking */
    uint32_t queue;
};

/*
 * Loads the program: (mark & mask) selects the queue of the first equal route, or `other`. Returns a descriptor, or
 * -errno.
 */
int lm_mark_steering_load(uint32_t mask, const struct lm_steer *routes, size_t count, uint32_t other);
/* Makes the TUN use the program from its next packet on; the descriptor may then be closed. 0, or -errno. */
int lm_mark_steering_attach(int tun, int program);

#endif
