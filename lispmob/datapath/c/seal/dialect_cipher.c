#include "seal/dialect_cipher.h"

#include <string.h>

#include "seal/aead_libcrypto.h"
#include "seal/dialect.h"

#ifdef LM_HAS_LIBCRYPTO

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

struct lm_aead_context *lm_dialect_cipher_new(const uint8_t *key, bool seals)
{
    EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
    if (made && (EVP_CipherInit_ex2(made, EVP_aes_128_cbc(), key, NULL, seals, NULL) != 1 ||
                 EVP_CIPHER_CTX_set_padding(made, 0) != 1)) {
        EVP_CIPHER_CTX_free(made);
        made = NULL;
        ERR_clear_error();
    }
    return lm_aead_libcrypto_wrap(made);
}

bool lm_dialect_cipher_run(struct lm_aead_context *context, const uint8_t *iv, uint8_t *text, size_t octets)
{
    EVP_CIPHER_CTX *c = lm_aead_libcrypto_evp(context);
    int written = 0, last = 0;
    bool is_good = EVP_CipherInit_ex2(c, NULL, NULL, iv, -1, NULL) == 1 && EVP_CIPHER_CTX_set_padding(c, 0) == 1 &&
                   EVP_CipherUpdate(c, text, &written, text, (int)octets) == 1 &&
                   EVP_CipherFinal_ex(c, text + written, &last) == 1 && (size_t)(written + last) == octets;
    if (!is_good)
        ERR_clear_error();
    return is_good;
}

bool lm_dialect_cipher_icv(const uint8_t *key, size_t key_octets, const uint8_t *text, size_t octets, uint8_t *icv)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    bool is_good = HMAC(EVP_sha256(), key, (int)key_octets, text, octets, digest, &length) && length >= LM_DIALECT_ICV;
    if (is_good)
        memcpy(icv, digest, LM_DIALECT_ICV);
    else
        ERR_clear_error();
    return is_good;
}

#else

struct lm_aead_context *lm_dialect_cipher_new(const uint8_t *key, bool seals)
{
    (void)key, (void)seals;
    return NULL;
}

bool lm_dialect_cipher_run(struct lm_aead_context *context, const uint8_t *iv, uint8_t *text, size_t octets)
{
    (void)context, (void)iv, (void)text, (void)octets;
    return false;
}

bool lm_dialect_cipher_icv(const uint8_t *key, size_t key_octets, const uint8_t *text, size_t octets, uint8_t *icv)
{
    (void)key, (void)key_octets, (void)text, (void)octets, (void)icv;
    return false;
}

#endif
