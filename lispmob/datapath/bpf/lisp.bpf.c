/* The ebpf tier: LISP's data plane in the kernel. One object, since the programs share all maps. */
#include "relay.bpf.c"

char _license[] SEC("license") = "Dual MIT/GPL";
