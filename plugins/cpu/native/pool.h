/* Threads that share out the tasks of one parallel region after another. */
#ifndef LLAMA_POOL_H
#define LLAMA_POOL_H

#include <stdint.h>

#include "llama_cpu.h"

typedef void (*pool_task)(void *context, int32_t task, int32_t thread);

/* Run tasks 0..count-1 once each, on any thread and in any order; back when all are done. The
 * caller has entered the pool. */
void pool_run(llama_pool *pool, pool_task task, void *context, int32_t count);

/* One step at a time: LLAMA_FORKED where this process is not the pool's own. */
int32_t pool_enter(llama_pool *pool);
void pool_leave(llama_pool *pool);

#endif
