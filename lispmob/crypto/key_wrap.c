#include "key_wrap.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

/* libcrypto may write one block more than it keeps. */
enum { ROOM = KEY_WRAP_WRAPPED_OCTETS + EVP_MAX_BLOCK_LENGTH };

static int run(const uint8_t *key, const uint8_t *in, int in_octets, uint8_t *out, int out_octets, int seals)
{
    uint8_t room[ROOM];
    int written = 0, rest = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (!context)
        return -1;
    EVP_CIPHER_CTX_set_flags(context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    /* Without an IV it is that of RFC 3394, 2.2.3.1. */
    int good = EVP_CipherInit_ex(context, EVP_aes_128_wrap(), NULL, key, NULL, seals) == 1 &&
               EVP_CipherUpdate(context, room, &written, in, in_octets) == 1 &&
               EVP_CipherFinal_ex(context, room + written, &rest) == 1 && written + rest == out_octets;
    EVP_CIPHER_CTX_free(context);
    if (good)
        memcpy(out, room, (size_t)out_octets);
    else
        ERR_clear_error(); /* the queue is this thread's, and Python's ssl reads it too */
    OPENSSL_cleanse(room, sizeof room);
    return good ? 0 : -1;
}

int key_wrap_seal(const uint8_t key[KEY_WRAP_KEY_OCTETS], const uint8_t secret[KEY_WRAP_KEY_OCTETS],
                  uint8_t wrapped[KEY_WRAP_WRAPPED_OCTETS])
{
    return run(key, secret, KEY_WRAP_KEY_OCTETS, wrapped, KEY_WRAP_WRAPPED_OCTETS, 1);
}

int key_wrap_open(const uint8_t key[KEY_WRAP_KEY_OCTETS], const uint8_t wrapped[KEY_WRAP_WRAPPED_OCTETS],
                  uint8_t secret[KEY_WRAP_KEY_OCTETS])
{
    return run(key, wrapped, KEY_WRAP_WRAPPED_OCTETS, secret, KEY_WRAP_KEY_OCTETS, 0);
}
