/* Threads that share out the tasks of one parallel region after another. */
#ifndef LLAMA_POOL_H
#define LLAMA_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "llama_cpu.h"

typedef void (*pool_task)(void *context, int32_t task, int32_t thread);

#define ENOUGH SIZE_MAX /* work for many: each task was made large enough */

/* Run tasks 0..count-1 once each, on any thread and in any order; back when all are done. The
 * caller has entered the pool. `work` is about how many numbers they read or multiply: where waking
 * others would take longer than they save, the caller does it all. */
void pool_run(llama_pool *pool, pool_task task, void *context, int32_t count, size_t work);

/* Whether the pool came with a fork, and has none of its threads here: then it cannot be entered. */
int pool_is_inherited(const llama_pool *pool);
/* One step at a time. */
void pool_enter(llama_pool *pool);
void pool_leave(llama_pool *pool);

#endif
