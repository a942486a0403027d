/* Both ciphers by libcrypto, the library of OpenSSL 3. */
#ifndef LM_AEAD_LIBCRYPTO_H
#define LM_AEAD_LIBCRYPTO_H

#include "seal/aead_library.h"

/* NULL in a build without its headers. */
const struct lm_aead_library *lm_aead_libcrypto(void);
/* A context around an EVP_CIPHER_CTX that lm_aead_free() frees, too. NULL: out of memory, and it is freed. */
struct lm_aead_context *lm_aead_libcrypto_wrap(void *evp);
/* The EVP_CIPHER_CTX of a context of this library. */
void *lm_aead_libcrypto_evp(struct lm_aead_context *context);

#endif
