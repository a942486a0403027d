#include "chacha.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>

static EVP_CIPHER_CTX *begun(const uint8_t *key, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                             size_t octets, int seals)
{
    int ignored = 0;
    EVP_CIPHER_CTX *context = data_octets > INT_MAX || octets > INT_MAX ? NULL : EVP_CIPHER_CTX_new();
    if (context && EVP_CipherInit_ex(context, EVP_chacha20_poly1305(), NULL, key, nonce, seals) == 1 &&
        (!data_octets || EVP_CipherUpdate(context, NULL, &ignored, data, (int)data_octets) == 1))
        return context;
    EVP_CIPHER_CTX_free(context);
    return NULL;
}

static int ended(EVP_CIPHER_CTX *context, int good)
{
    EVP_CIPHER_CTX_free(context);
    if (good)
        return 0;
    ERR_clear_error(); /* the queue is this thread's, and Python's ssl reads it too */
    return -1;
}

int chacha_seal(const uint8_t key[CHACHA_KEY_OCTETS], const uint8_t nonce[CHACHA_NONCE_OCTETS], const uint8_t *data,
                size_t data_octets, const uint8_t *plain, size_t octets, uint8_t *sealed)
{
    int written = 0;
    EVP_CIPHER_CTX *context = begun(key, nonce, data, data_octets, octets, 1);
    int good = context && (!octets || EVP_CipherUpdate(context, sealed, &written, plain, (int)octets) == 1) &&
               EVP_CipherFinal_ex(context, sealed + octets, &written) == 1 &&
               EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, CHACHA_TAG_OCTETS, sealed + octets) == 1;
    return ended(context, good);
}

int chacha_open(const uint8_t key[CHACHA_KEY_OCTETS], const uint8_t nonce[CHACHA_NONCE_OCTETS], const uint8_t *data,
                size_t data_octets, const uint8_t *sealed, size_t octets, uint8_t *plain)
{
    int written = 0;
    uint8_t tag[CHACHA_TAG_OCTETS];
    if (octets < sizeof tag)
        return -1;
    size_t rest = octets - sizeof tag;
    for (size_t place = 0; place < sizeof tag; place++)
        tag[place] = sealed[rest + place];
    EVP_CIPHER_CTX *context = begun(key, nonce, data, data_octets, rest, 0);
    int good = context && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, CHACHA_TAG_OCTETS, tag) == 1 &&
               (!rest || EVP_CipherUpdate(context, plain, &written, sealed, (int)rest) == 1) &&
               EVP_CipherFinal_ex(context, plain + rest, &written) == 1;
    return ended(context, good);
}
