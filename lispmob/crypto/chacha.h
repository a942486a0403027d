/* ChaCha20-Poly1305 (RFC 8439), by libcrypto: key 32 octets, nonce 12, tag 16 behind the ciphertext. */
#ifndef LM_CHACHA_H
#define LM_CHACHA_H

#include <stddef.h>
#include <stdint.h>

#define CHACHA_KEY_OCTETS 32
#define CHACHA_NONCE_OCTETS 12
#define CHACHA_TAG_OCTETS 16

/* `sealed` has room for `octets` and the tag. 0; -1 when libcrypto refuses. */
int chacha_seal(const uint8_t key[CHACHA_KEY_OCTETS], const uint8_t nonce[CHACHA_NONCE_OCTETS], const uint8_t *data,
                size_t data_octets, const uint8_t *plain, size_t octets, uint8_t *sealed);

/* `octets` are those of `sealed`, the tag included; `plain` has room for all but the tag. 0; -1 for a wrong tag, and
 * then nothing of `plain` means anything. */
int chacha_open(const uint8_t key[CHACHA_KEY_OCTETS], const uint8_t nonce[CHACHA_NONCE_OCTETS], const uint8_t *data,
                size_t data_octets, const uint8_t *sealed, size_t octets, uint8_t *plain);

#endif
