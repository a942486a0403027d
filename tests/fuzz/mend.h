/*
 * A mutation breaks the checksum of an IPv4 header, and the rest would not be read: half of the time the checksum is
 * corrected, and as often the total length.
 */
#include <stdint.h>

#include "packet/packet.h"

size_t LLVMFuzzerMutate(uint8_t *octets, size_t length, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *octets, size_t length, size_t most, unsigned seed);

/* Mutates `length` octets as libFuzzer does; `seed` decides whether the header at `at`, if any, is corrected. */
static size_t mutate_and_mend(uint8_t *octets, size_t length, size_t most, unsigned seed, size_t at)
{
    length = LLVMFuzzerMutate(octets, length, most);
    if (!(seed & 1) || at + 60 > length || octets[at] >> 4 != 4 || (octets[at] & 15) < 5)
        return length;
    if (seed & 2)
        lm_put16(octets + at + 2, (uint32_t)(length - at));
    lm_packet_write_ipv4_checksum(octets + at);
    return length;
}
