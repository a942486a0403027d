#include "base/counters.h"

#include <stddef.h>

static const char *const names[] = {
#define LM_NAME(name) #name,
    LM_COUNTERS(LM_NAME)
#undef LM_NAME
};

const char *lm_counters_name(unsigned index)
{
    return index < LM_COUNTER_COUNT ? names[index] : NULL;
}
