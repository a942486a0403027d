/* The ebpf tier: LISP's data plane in the kernel. One object, since both programs share all maps. */
#include "decap.bpf.h"

char _license[] SEC("license") = "Dual MIT/GPL";
