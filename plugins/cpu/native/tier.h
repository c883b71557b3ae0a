/* Which instruction sets run here, and the table of the one in use. */
#ifndef LLAMA_TIERS_H
#define LLAMA_TIERS_H

#include "kernels.h"

/* The table for programs made now, or NULL where LLAMA_CPU_TIER names what does not run. */
const kernels *llama_kernels(void);

#endif
