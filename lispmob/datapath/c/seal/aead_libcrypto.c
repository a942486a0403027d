#include "seal/aead_libcrypto.h"

#ifdef LM_HAS_LIBCRYPTO

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct own {
    struct lm_aead_context base;
    EVP_CIPHER_CTX *evp;
};

static EVP_CIPHER_CTX *evp_of(struct lm_aead_context *context)
{
    return ((struct own *)context)->evp;
}

static struct lm_aead_context *make(const struct lm_aead_library *library, int aead, const uint8_t *key, bool seals)
{
    (void)library;
    EVP_CIPHER *cipher =
        EVP_CIPHER_fetch(NULL, aead == LM_AEAD_AES_128_GCM ? "AES-128-GCM" : "ChaCha20-Poly1305", NULL);
    EVP_CIPHER_CTX *made = cipher ? EVP_CIPHER_CTX_new() : NULL;
    if (made && EVP_CipherInit_ex2(made, cipher, key, NULL, seals, NULL) != 1) {
        EVP_CIPHER_CTX_free(made);
        made = NULL;
    }
    EVP_CIPHER_free(cipher); /* the context has a reference of its own */
    if (!made)
        ERR_clear_error(); /* the queue belongs to this thread, and Python's ssl reads it too */
    return lm_aead_libcrypto_wrap(made);
}

static void end(struct lm_aead_context *context)
{
    EVP_CIPHER_CTX_free(evp_of(context));
    free(context);
}

static bool seal_text(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                      const uint8_t *text, size_t octets, uint8_t *out)
{
    EVP_CIPHER_CTX *c = evp_of(context);
    int written = 0;
    OSSL_PARAM tag[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, out + octets, LM_AEAD_TAG),
                        OSSL_PARAM_construct_end()};
    bool is_good = EVP_EncryptInit_ex2(c, NULL, NULL, nonce, NULL) == 1 &&
                   EVP_EncryptUpdate(c, NULL, &written, data, (int)data_octets) == 1 &&
                   (octets == 0 || EVP_EncryptUpdate(c, out, &written, text, (int)octets) == 1) &&
                   EVP_EncryptFinal_ex(c, out + octets, &written) == 1 && EVP_CIPHER_CTX_get_params(c, tag) == 1;
    if (!is_good)
        ERR_clear_error();
    return is_good;
}

static bool open_text(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                      uint8_t *text, size_t octets)
{
    EVP_CIPHER_CTX *c = evp_of(context);
    int written = 0;
    OSSL_PARAM tag[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, text + octets, LM_AEAD_TAG),
                        OSSL_PARAM_construct_end()};
    bool is_good = EVP_DecryptInit_ex2(c, NULL, NULL, nonce, tag) == 1 &&
                   EVP_DecryptUpdate(c, NULL, &written, data, (int)data_octets) == 1 &&
                   (octets == 0 || EVP_DecryptUpdate(c, text, &written, text, (int)octets) == 1) &&
                   EVP_DecryptFinal_ex(c, text + octets, &written) == 1;
    if (!is_good)
        ERR_clear_error();
    return is_good;
}

static const struct lm_aead_library libcrypto = {"libcrypto", make, end, seal_text, open_text};

const struct lm_aead_library *lm_aead_libcrypto(void)
{
    return &libcrypto;
}

struct lm_aead_context *lm_aead_libcrypto_wrap(void *evp)
{
    struct own *own = evp ? malloc(sizeof *own) : NULL;
    if (!own) {
        EVP_CIPHER_CTX_free(evp);
        return NULL;
    }
    *own = (struct own){{&libcrypto}, evp};
    return &own->base;
}

void *lm_aead_libcrypto_evp(struct lm_aead_context *context)
{
    return evp_of(context);
}

#else

const struct lm_aead_library *lm_aead_libcrypto(void)
{
    return NULL;
}

struct lm_aead_context *lm_aead_libcrypto_wrap(void *evp)
{
    (void)evp;
    return NULL;
}

void *lm_aead_libcrypto_evp(struct lm_aead_context *context)
{
    (void)context;
    return NULL;
}

#endif
