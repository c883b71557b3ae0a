/* What the parts of the fuzz share: dice, a program around one operation, batches as tight as can be,
 * comparison with plain loops, and a count of what was met. */
#ifndef FUZZ_H
#define FUZZ_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../native/llama_cpu.h"

#define CHECK(call) (void)((call) == LLAMA_OK || (broken(#call), 0))

/* The program under test; a case makes it, and who asked for the case frees it. */
extern llama_program *p;

int32_t below(int32_t n);
void broken(const char *what);
void *room(size_t count, size_t size);
/* Numbers of 8 bits with 127 at the start of every `block`, so that its scale is a power of two. */
void fill(float *x, int32_t n, int32_t block, int32_t most);
float anything(void);
void compare(const char *what, float found, double expected, double size);
/* Count a case of this name for the tier in use. */
void met(const char *name);

int32_t value(int32_t width, int32_t gathered);
/* A program whose value 0 is the vectors that go in, or rows of `table` where that is given. */
llama_limits begin(llama_pool *pool, int32_t hidden, int32_t vocab, int32_t kv_type, int32_t block,
                   const llama_weight_source *table);
void finish(int32_t of, int32_t width);

/* A batch whose arrays are exactly as long as they must be; T rows of S sequences. */
typedef struct work {
    llama_batch batch;
    int32_t *tokens, *positions, *starts, *blocks, *block_starts, *adapters;
    uint8_t *want;
    float *x, *raw, *logits;
} work;

work make(const llama_limits *l, const int32_t *lengths, int32_t S, const int32_t *from, const int32_t *table);
void drop(work *w);
int32_t step(const work *w);
/* One number spoiled: what is surely wrong must be refused, and nothing may be read or written that
 * is not the program's; the sanitizers see to that. `slots` are those of adapters. */
void spoil(const llama_limits *l, const int32_t *table, int32_t slots);

double by_function(int32_t fn, double x);
void try_linear(llama_pool *pool);
void try_embed(llama_pool *pool);
void try_moe(llama_pool *pool);
void try_lora(llama_pool *pool);
void try_rows(llama_pool *pool);
void try_rope(llama_pool *pool);
void try_attention(llama_pool *pool);

#endif
