/* The clock of the datapath: nanoseconds, monotonic. */
#ifndef LM_CLOCK_H
#define LM_CLOCK_H

#include <stdint.h>

uint64_t lm_clock_now(void);

#endif
