#include "ebpf/mark_steering.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HEAD 2u      /* load, mask */
#define PER_ROUTE 3u /* compare, set, exit */
#define TAIL 2u      /* set, exit */

static struct bpf_insn set_queue(uint32_t queue)
{
    return (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = (int32_t)queue};
}

static struct bpf_insn leave(void)
{
    return (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
}

static size_t assemble(struct bpf_insn *code, uint32_t mask, const struct lm_steer *routes, size_t count,
                       uint32_t other)
{
    size_t n = 0;
    code[n++] = (struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,
                                  .dst_reg = BPF_REG_0,
                                  .src_reg = BPF_REG_1,
                                  .off = (int16_t)offsetof(struct __sk_buff, mark)};
    code[n++] = (struct bpf_insn){.code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = BPF_REG_0, .imm = (int32_t)mask};
    for (size_t i = 0; i < count; i++) {
        /* 32 bits wide: a 64-bit comparison would extend the sign of marks with the highest bit. */
        code[n++] = (struct bpf_insn){
            .code = BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = BPF_REG_0, .off = 2, .imm = (int32_t)routes[i].mark};
        code[n++] = set_queue(routes[i].queue);
        code[n++] = leave();
    }
    code[n++] = set_queue(other);
    code[n++] = leave();
    return n;
}

int lm_mark_steering_load(uint32_t mask, const struct lm_steer *routes, size_t count, uint32_t other)
{
    struct bpf_insn code[HEAD + PER_ROUTE * LM_STEER_MAX + TAIL];
    union bpf_attr attributes;
    if (count > LM_STEER_MAX)
        return -E2BIG;
    memset(&attributes, 0, sizeof attributes); /* the kernel requires unused octets to be 0 */
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insn_cnt = (uint32_t)assemble(code, mask, routes, count, other);
    attributes.insns = (uint64_t)(uintptr_t)code;
    attributes.license = (uint64_t)(uintptr_t)"Dual MIT/GPL";
    memcpy(attributes.prog_name, "lispmob_steer", sizeof "lispmob_steer");
    long made = syscall(__NR_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
    return made < 0 ? -errno : (int)made;
}

int lm_mark_steering_attach(int tun, int program)
{
    /* ioctl(2) itself, because C libraries disagree about the type of a request. */
    return syscall(SYS_ioctl, tun, TUNSETSTEERINGEBPF, &program) ? -errno : 0;
}
