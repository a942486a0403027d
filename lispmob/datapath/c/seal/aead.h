/*
 * The two ciphers of sealed packets, from libcrypto: AES-128-GCM (NIST SP 800-38D) and ChaCha20-Poly1305 (RFC 8439).
 *
 * A context holds one key for one direction and serves one thread. Only the nonce changes from packet to packet. A
 * build without the headers of libcrypto has these functions too, but they make no context.
 */
#ifndef LM_AEAD_H
#define LM_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define LM_AEAD_KEY 32u /* octets; AES-128-GCM uses the first 16 */
#define LM_AEAD_NONCE 12u
#define LM_AEAD_TAG 16u

enum lm_aead { LM_AEAD_AES_128_GCM = 1, LM_AEAD_CHACHA20_POLY1305 = 2 };

struct lm_aead_context;
struct lm_aead_library;

/* True when this build has ciphers; false: no context can be made. */
bool lm_aead_is_built(void);
/* The libraries that work here, by number from 0 (libcrypto); NULL: there are no more. */
const struct lm_aead_library *lm_aead_library(size_t number);
const char *lm_aead_name(const struct lm_aead_library *library);
/*
 * The library that new contexts of this cipher use; NULL without libcrypto. The first call of the process loads the
 * libraries and compares them, which takes about a millisecond: make it where no packet waits.
 */
const struct lm_aead_library *lm_aead_chosen(int aead);
/* NULL: out of memory, or the library refuses the cipher. */
struct lm_aead_context *lm_aead_new(int aead, const uint8_t *key, bool seals);
struct lm_aead_context *lm_aead_new_by(const struct lm_aead_library *library, int aead, const uint8_t *key, bool seals);
/* Overwrites the key and frees the context. */
void lm_aead_free(struct lm_aead_context *context);
/* Writes the encrypted parts, followed by the tag. `out` overlaps no part, or is the only one. */
bool lm_aead_seal(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                  const struct iovec *parts, size_t count, uint8_t *out);
/* Decrypts in place; `octets` counts text and tag. False: the tag is invalid, and the text is overwritten with zeros. */
bool lm_aead_open(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                  uint8_t *text, size_t octets);

#endif
