/* Diffie-Hellman on Curve25519 (RFC 7748), by libcrypto. Keys are 32 octets. */
#ifndef LM_X25519_H
#define LM_X25519_H

#include <stdint.h>

#define X25519_KEY_OCTETS 32

/* 0; -1 when libcrypto refuses. */
int x25519_public(const uint8_t private_key[X25519_KEY_OCTETS], uint8_t public_key[X25519_KEY_OCTETS]);

/* 0; -1 also for a public key of small order, with which every result is zero (RFC 7748, 6.1). */
int x25519_shared(const uint8_t private_key[X25519_KEY_OCTETS], const uint8_t public_key[X25519_KEY_OCTETS],
                  uint8_t shared[X25519_KEY_OCTETS]);

#endif
