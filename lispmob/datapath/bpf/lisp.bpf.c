/* The ebpf tier: LISP's data plane in the kernel. One object with three programs, because they share all maps. */
#include "encap.bpf.c"

#include "decap.bpf.c"
#include "relay.bpf.c"

char _license[] SEC("license") = "Dual MIT/GPL";
