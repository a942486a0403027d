#include "x25519.h"

#include <openssl/err.h>
#include <openssl/evp.h>

static EVP_PKEY *private_of(const uint8_t *octets)
{
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, octets, X25519_KEY_OCTETS);
}

/* The error queue is this thread's, and Python's ssl reads it too. */
static int told(int good)
{
    if (good)
        return 0;
    ERR_clear_error();
    return -1;
}

int x25519_public(const uint8_t private_key[X25519_KEY_OCTETS], uint8_t public_key[X25519_KEY_OCTETS])
{
    size_t octets = X25519_KEY_OCTETS;
    EVP_PKEY *own = private_of(private_key);
    int good = own && EVP_PKEY_get_raw_public_key(own, public_key, &octets) == 1;
    EVP_PKEY_free(own);
    return told(good);
}

int x25519_shared(const uint8_t private_key[X25519_KEY_OCTETS], const uint8_t public_key[X25519_KEY_OCTETS],
                  uint8_t shared[X25519_KEY_OCTETS])
{
    size_t octets = X25519_KEY_OCTETS;
    EVP_PKEY *own = private_of(private_key);
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, X25519_KEY_OCTETS);
    EVP_PKEY_CTX *context = own ? EVP_PKEY_CTX_new(own, NULL) : NULL;
    /* libcrypto refuses a result of all zeros itself. */
    int good = theirs && context && EVP_PKEY_derive_init(context) == 1 &&
               EVP_PKEY_derive_set_peer(context, theirs) == 1 && EVP_PKEY_derive(context, shared, &octets) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(own);
    return told(good);
}
