#include "seal/aead_ipsec_mb.h"

#if defined(__x86_64__) && defined(LM_HAS_LIBCRYPTO)

#include <cpuid.h>
#include <dlfcn.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Versions 1.0 to 2.x: their functions take the same arguments, and their structs fit into what `own` has for them. */
#define VERSION_FIRST 0x10000u
#define VERSION_END 0x30000u
#define ALIGNMENT 64u

/* intel-ipsec-mb.h declares these for variant avx_gen4; vaes_avx512 is exported beside it. */
typedef void expand_fn(const void *key, void *expanded);
typedef void run_fn(const void *expanded, void *state, uint8_t *out, const uint8_t *in, uint64_t octets,
                    const uint8_t *nonce, const uint8_t *data, uint64_t data_octets, uint8_t *tag, uint64_t tag_octets);

struct variant {
    struct lm_aead_library base;
    expand_fn *expand;
    run_fn *encrypt, *decrypt;
};

struct own {
    struct lm_aead_context base;
    const struct variant *variant;
    _Alignas(ALIGNMENT) uint8_t expanded[1536]; /* struct gcm_key_data: 1008 octets in 1.3, 1264 in 2.0 */
    _Alignas(ALIGNMENT) uint8_t state[256];     /* struct gcm_context_data: 88 */
};

static struct lm_aead_context *make(const struct lm_aead_library *library, int aead, const uint8_t *key, bool seals)
{
    (void)seals; /* the same key schedule serves both */
    struct own *own = aead == LM_AEAD_AES_128_GCM ? aligned_alloc(ALIGNMENT, sizeof *own) : NULL;
    if (!own)
        return NULL;
    memset(own, 0, sizeof *own);
    own->base.library = library;
    own->variant = (const struct variant *)library;
    own->variant->expand(key, own->expanded);
    return &own->base;
}

static void end(struct lm_aead_context *context)
{
    explicit_bzero(context, sizeof(struct own));
    free(context);
}

static bool seal_text(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                      const uint8_t *text, size_t octets, uint8_t *out)
{
    struct own *own = (struct own *)context;
    own->variant->encrypt(own->expanded, own->state, out, text, octets, nonce, data, data_octets, out + octets,
                          LM_AEAD_TAG);
    return true;
}

static bool open_text(struct lm_aead_context *context, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                      uint8_t *text, size_t octets)
{
    struct own *own = (struct own *)context;
    uint8_t tag[LM_AEAD_TAG];
    own->variant->decrypt(own->expanded, own->state, text, text, octets, nonce, data, data_octets, tag, LM_AEAD_TAG);
    return CRYPTO_memcmp(tag, text + octets, LM_AEAD_TAG) == 0;
}

static bool has_vaes_avx512(void)
{
    unsigned eax, ebx, ecx, edx;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx & bit_VAES && ecx & bit_VPCLMULQDQ;
}

static bool has_avx_gen4(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("aes") &&
           __builtin_cpu_supports("pclmul");
}

static void *function(void *library, const char *verb, const char *variant)
{
    char name[64];
    snprintf(name, sizeof name, "aes_gcm_%s_128_%s", verb, variant);
    return dlsym(library, name);
}

static bool load(struct variant *into, void *library, const char *suffix, const char *name)
{
    *into = (struct variant){.base = {name, make, end, seal_text, open_text}};
    /* POSIX lets a pointer of dlsym() be one to a function; ISO C has no cast for that. */
    *(void **)&into->expand = function(library, "pre", suffix);
    *(void **)&into->encrypt = function(library, "enc", suffix);
    *(void **)&into->decrypt = function(library, "dec", suffix);
    return into->expand && into->encrypt && into->decrypt;
}

const struct lm_aead_library *lm_aead_ipsec_mb(size_t number)
{
    static struct variant variants[2];
    static size_t count;
    static bool is_loaded;
    if (!is_loaded) {
        is_loaded = true;
        bool has_vaes = has_vaes_avx512(), has_avx = has_avx_gen4();
        void *library = has_vaes || has_avx ? dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL) : NULL;
        if (!library && (has_vaes || has_avx))
            library = dlopen("libIPSec_MB.so.2", RTLD_NOW | RTLD_LOCAL);
        unsigned (*version)(void) = NULL;
        if (library)
            *(void **)&version = dlsym(library, "imb_get_version");
        bool is_known = version && version() >= VERSION_FIRST && version() < VERSION_END;
        if (is_known && has_vaes && load(&variants[count], library, "vaes_avx512", "libipsec-mb (VAES, AVX-512)"))
            count++;
        if (is_known && has_avx && load(&variants[count], library, "avx_gen4", "libipsec-mb (AES-NI, AVX2)"))
            count++;
    }
    return number < count ? &variants[number].base : NULL;
}

#else

const struct lm_aead_library *lm_aead_ipsec_mb(size_t number)
{
    (void)number;
    return NULL;
}

#endif
