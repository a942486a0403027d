/* The ciphers that only the dialect of lispers.net uses, from libcrypto. */
#ifndef LM_DIALECT_CIPHER_H
#define LM_DIALECT_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lm_aead_context;

/*
 * Makes a context for AES-128-CBC over whole blocks, in place; lm_aead_free() frees it. NULL: no memory, or no
 * libcrypto.
 */
struct lm_aead_context *lm_dialect_cipher_new(const uint8_t *key, bool seals);
bool lm_dialect_cipher_run(struct lm_aead_context *context, const uint8_t *iv, uint8_t *text, size_t octets);
/* Writes the first 20 octets of the HMAC-SHA-256 of the text. */
bool lm_dialect_cipher_icv(const uint8_t *key, size_t key_octets, const uint8_t *text, size_t octets, uint8_t *icv);

#endif
