/* libFuzzer on all functions that read packets (tests/datapath/compiled/sanitize_packets.c calls them). */
#define main sanitize_main
#include "../datapath/compiled/sanitize_packets.c"
#undef main
#include "mend.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t length)
{
    state = 88172645463325252u ^ length;
    if (length <= RECORD_MAX)
        try_one(octets, length);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *octets, size_t length, size_t most, unsigned seed)
{
    return mutate_and_mend(octets, length, most, seed, seed & 4 ? 8 : 0);
}
