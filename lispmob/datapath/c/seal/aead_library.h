/* What a library of ciphers offers to seal/aead.c, which alone calls it. */
#ifndef LM_AEAD_LIBRARY_H
#define LM_AEAD_LIBRARY_H

#include "seal/aead.h"

struct lm_aead_library {
    const char *name;
    /* NULL: out of memory, or it does not have this cipher. */
    struct lm_aead_context *(*make)(const struct lm_aead_library *library, int aead, const uint8_t *key, bool seals);
    void (*end)(struct lm_aead_context *context);
    /* Writes `octets` of encrypted text and the tag; `text` is `out`, or does not overlap it. */
    bool (*seal)(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                 const uint8_t *text, size_t octets, uint8_t *out);
    /* In place; `octets` does not count the tag behind the text. It may leave anything in a text whose tag is invalid. */
    bool (*open)(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                 uint8_t *text, size_t octets);
};

/* Each library's own context begins with this. */
struct lm_aead_context {
    const struct lm_aead_library *library;
};

#endif
