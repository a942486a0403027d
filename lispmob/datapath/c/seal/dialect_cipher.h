/* The ciphers of lispers.net's dialect that sealed packets have no use for, by libcrypto. */
#ifndef LM_DIALECT_CIPHER_H
#define LM_DIALECT_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lm_aead_context;

/* AES-128-CBC over whole blocks, in place. NULL: no memory, or no libcrypto. lm_aead_free() takes it. */
struct lm_aead_context *lm_dialect_cipher_new(const uint8_t *key, bool seals);
bool lm_dialect_cipher_run(struct lm_aead_context *context, const uint8_t *iv, uint8_t *text, size_t octets);
/* HMAC-SHA-256, the first 20 octets. */
bool lm_dialect_cipher_icv(const uint8_t *key, size_t key_octets, const uint8_t *text, size_t octets, uint8_t *icv);

#endif
