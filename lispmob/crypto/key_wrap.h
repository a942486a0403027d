/* AES key wrap (RFC 3394) of one 128-bit key with another, by libcrypto. */
#ifndef LM_KEY_WRAP_H
#define LM_KEY_WRAP_H

#include <stdint.h>

#define KEY_WRAP_KEY_OCTETS 16
#define KEY_WRAP_WRAPPED_OCTETS 24

/* `wrapped` gets the integrity check value and the key. 0; -1 when libcrypto refuses. */
int key_wrap_seal(const uint8_t key[KEY_WRAP_KEY_OCTETS], const uint8_t secret[KEY_WRAP_KEY_OCTETS],
                  uint8_t wrapped[KEY_WRAP_WRAPPED_OCTETS]);

/* 0; -1 when the integrity check fails: another key wrapped it, or it was changed. */
int key_wrap_open(const uint8_t key[KEY_WRAP_KEY_OCTETS], const uint8_t wrapped[KEY_WRAP_WRAPPED_OCTETS],
                  uint8_t secret[KEY_WRAP_KEY_OCTETS]);

#endif
