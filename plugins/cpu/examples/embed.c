/* Continues token ids with a model, from C alone: load, step a batch, sample, free.
 *
 *   python -m llama_plugin_cpu.export MODEL program.llama
 *   cc -std=c11 -I INCLUDE embed.c LIBRARY -Wl,-rpath,FOLDER -o embed
 *   ./embed program.llama 8 1 2 3
 *
 * INCLUDE, LIBRARY and its FOLDER lie in the installed package:
 *   python -c "from llama_plugin_cpu import native; print(native.FOLDER)"
 *
 * Two sequences share every step: the first line printed is greedy, the second is drawn at a
 * temperature of 0.8 with seed 7. Neither would be another one if it ran alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama_cpu.h"

enum { SEQUENCES = 2, MOST = 512, BLOCK = 16, GROUPS = 8, BLOCKS = MOST / BLOCK };

static const int32_t greedy[] = {LLAMA_GREEDY};
static const int32_t drawn[] = {LLAMA_TEMPERATURE, LLAMA_TOP_K, LLAMA_MULTINOMIAL};
static const double no_numbers[] = {0}, numbers[] = {0.8, 40, 0};

static int fail(const char *what, int32_t status, const llama_program *program) {
    const char *more = llama_program_message(program);
    fprintf(stderr, "%s: %s\n", what, *more ? more : llama_status_text(status));
    return 1;
}

/* Every sequence has blocks of its own, in every group the same. */
static void fill_tables(int32_t groups, int32_t *blocks, int32_t *starts) {
    for (int32_t i = 0; i < groups * SEQUENCES; i++) {
        starts[i] = i * BLOCKS;
        for (int32_t b = 0; b < BLOCKS; b++) blocks[i * BLOCKS + b] = i % SEQUENCES * BLOCKS + b;
    }
    starts[groups * SEQUENCES] = groups * SEQUENCES * BLOCKS;
}

/* Step `count` new tokens of each sequence from `position` on; `next` gets the one that follows. */
static int32_t step(llama_program *program, const int32_t *const tokens[SEQUENCES], int32_t count,
                    int32_t position, uint32_t index, int32_t next[SEQUENCES]) {
    static int32_t ids[SEQUENCES * MOST], positions[SEQUENCES * MOST];
    static int32_t blocks[GROUPS * SEQUENCES * BLOCKS], block_starts[GROUPS * SEQUENCES + 1];
    static uint8_t want[SEQUENCES * MOST];
    const int32_t starts[SEQUENCES + 1] = {0, count, 2 * count};
    const llama_chain chains[SEQUENCES] = {
        {.count = 1, .links = greedy, .numbers = no_numbers, .index = index},
        {.count = 3, .links = drawn, .numbers = numbers, .seed = 7, .index = index},
    };
    fill_tables(llama_program_groups(program), blocks, block_starts);
    for (int32_t row = 0; row < SEQUENCES * count; row++) {
        ids[row] = tokens[row / count][row % count];
        positions[row] = position + row % count;
        want[row] = row % count == count - 1 ? LLAMA_TOKEN_ID : LLAMA_NOTHING;
    }
    const llama_batch batch = {
        .num_tokens = SEQUENCES * count,
        .num_sequences = SEQUENCES,
        .num_block_ids = llama_program_groups(program) * SEQUENCES * BLOCKS,
        .tokens = ids,
        .positions = positions,
        .starts = starts,
        .blocks = blocks,
        .block_starts = block_starts,
        .want = want,
        .chains = chains,
    };
    const llama_results results = {.tokens = next};
    return llama_program_step(program, &batch, &results);
}

static int go_on(llama_program *program, const int32_t *prompt, int32_t length, int32_t count) {
    int32_t found[SEQUENCES][MOST];
    const int32_t *tokens[SEQUENCES] = {prompt, prompt};
    int32_t fresh = length, position = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t next[SEQUENCES];
        const int32_t status = step(program, tokens, fresh, position, (uint32_t)i, next);
        if (status) return fail("step", status, program);
        position += fresh;
        fresh = 1;
        for (int32_t s = 0; s < SEQUENCES; s++) {
            if (next[s] < 0) return fail("no logit is a number", LLAMA_NAN, NULL);
            found[s][i] = next[s];
            tokens[s] = &found[s][i];
        }
    }
    for (int32_t s = 0; s < SEQUENCES; s++)
        for (int32_t i = 0; i < count; i++) printf("%d%c", found[s][i], i == count - 1 ? '\n' : ' ');
    return 0;
}

/* A whole number of 32 bits and nothing behind it. */
static int is_number(const char *text, int32_t *number) {
    char *end;
    const long found = strtol(text, &end, 10);
    *number = (int32_t)found;
    return end != text && !*end && *number == found;
}

int main(int argc, char **argv) {
    static int32_t prompt[MOST];
    int32_t length = argc - 3, count = 0;
    int sense = length > 0 && is_number(argv[2], &count) && count > 0 && count <= MOST && length <= MOST - count;
    for (int32_t i = 0; sense && i < length; i++) sense = is_number(argv[3 + i], prompt + i);
    if (!sense) {
        fprintf(stderr, "usage: %s PROGRAM COUNT TOKEN...\n", argv[0]);
        return 2;
    }

    llama_pool *pool = NULL;
    llama_program *program = NULL;
    llama_limits limits = {.max_tokens = SEQUENCES * MOST,
                           .max_sequences = SEQUENCES,
                           .block_size = BLOCK,
                           .num_blocks = SEQUENCES * BLOCKS,
                           .kv_type = LLAMA_KV_F32};
    int failed = 1;
    int32_t status = llama_pool_new(0, &pool);
    if (status) {
        fail("pool", status, NULL);
    } else if ((status = llama_program_load(pool, argv[1], &limits, &program))) {
        fail(argv[1], status, program);
    } else if (llama_program_groups(program) > GROUPS) {
        fail(argv[1], LLAMA_LIMIT, NULL);
    } else {
        failed = go_on(program, prompt, length, count);
    }
    llama_program_free(program); /* NULL is allowed */
    llama_pool_free(pool);
    return failed;
}
