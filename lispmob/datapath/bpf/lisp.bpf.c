/* The ebpf tier: LISP's data plane in the kernel. One object with all programs, because they share the maps. */
#include "encap.bpf.c"

#include "decap.bpf.c"
#include "link_news.bpf.c"
#include "relay.bpf.c"

char _license[] SEC("license") = "Dual MIT/GPL";
