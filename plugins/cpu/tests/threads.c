/* Pools and programs used from many threads at once, for a build under the thread sanitizer: several
 * programs on one pool, several pools, one program asked by two threads, programs freed while others
 * step. The exit status counts what came out otherwise than alone.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../native/llama_cpu.h"

enum { WIDTH = 96, ROWS = 6, ROUNDS = 40, CALLERS = 6 };

static atomic_int faults, busy;
static llama_pool *pools[3];
static float weights[WIDTH * WIDTH], x[ROWS * WIDTH], alone[ROWS * WIDTH];

static llama_program *make(llama_pool *pool) {
    const llama_limits limits = {WIDTH, WIDTH, 64, ROWS, 1, 16, 4, LLAMA_KV_F32};
    const llama_weight_source source = {.kind = LLAMA_W_F32, .rows = WIDTH, .cols = WIDTH, .data = weights};
    llama_program *p = NULL;
    int32_t status = llama_program_new(pool, &limits, &p), weight = 0, ids[3] = {0};
    for (int i = 0; i < 3 && !status; i++) status = llama_program_value(p, WIDTH, i == 2, ids + i);
    if (!status) status = llama_program_weight(p, &source, &weight);
    const llama_op ops[] = {
        {.kind = LLAMA_EMBED, .output = ids[0], .inputs = {-1, -1, -1}, .num_weights = 1, .weights = &weight},
        {.kind = LLAMA_LINEAR, .output = ids[1], .inputs = {ids[0], -1, -1}, .num_weights = 1, .weights = &weight},
        {.kind = LLAMA_GATHER, .output = ids[2], .inputs = {ids[1], -1, -1}}};
    for (int i = 0; i < 3 && !status; i++) status = llama_program_add(p, ops + i);
    if (!status) status = llama_program_finish(p, ids[2], -1);
    if (status) {
        faults++;
        printf("%s: %s\n", llama_status_text(status), llama_program_message(p));
    }
    return p;
}

static int32_t step(llama_program *p, float *out) {
    const int32_t tokens[ROWS] = {-1, -1, -1, -1, -1, -1}, positions[ROWS] = {0, 1, 2, 3, 4, 5}, starts[] = {0, ROWS};
    const uint8_t want[ROWS] = {1, 1, 1, 1, 1, 1};
    const llama_batch batch = {.num_tokens = ROWS, .num_sequences = 1, .tokens = tokens, .positions = positions,
                               .starts = starts, .want = want, .embeddings = x};
    return llama_program_step(p, &batch, &(llama_results){.logits = out});
}

static void check(int32_t status, const float *found) {
    if (status == LLAMA_BUSY) busy++;
    else if (status || memcmp(found, alone, sizeof alone)) faults++;
}

/* A program of one's own on a pool of all, made and freed in every other round. */
static void *own(void *argument) {
    const int number = *(int *)argument;
    llama_program *p = make(pools[number % 2]);
    float out[ROWS * WIDTH];
    for (int i = 0; i < ROUNDS; i++) {
        check(step(p, out), out);
        if (i % 4 == number % 4) {
            llama_program_free(p);
            p = make(pools[number % 2]);
        }
    }
    llama_program_free(p);
    return NULL;
}

/* One program of all: a caller gets its result or hears that another is at it. */
static void *shared(void *program) {
    float out[ROWS * WIDTH];
    for (int i = 0; i < ROUNDS; i++) check(step(program, out), out);
    return NULL;
}

/* Pools come and go, some without ever having worked. */
static void *come_and_go(void *unused) {
    (void)unused;
    for (int i = 0; i < ROUNDS / 2; i++) {
        llama_pool *pool = NULL;
        float out[ROWS * WIDTH];
        if (llama_pool_new(1 + i % 4, &pool)) faults++;
        if (i % 3) {
            llama_program *p = make(pool);
            check(step(p, out), out);
            llama_program_free(p);
        }
        llama_pool_free(pool);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[2 * CALLERS + 1];
    int numbers[CALLERS];
    for (int i = 0; i < WIDTH * WIDTH; i++) weights[i] = (float)(i % 17 - 8) / 16;
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = (float)(i % 29 - 14) / 8;
    for (int i = 0; i < 3; i++)
        if (llama_pool_new(2 + i, pools + i)) return 97;
    llama_program *one = make(pools[2]);
    if (step(one, alone)) return 98;
    for (int i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        pthread_create(threads + 2 * i, NULL, own, numbers + i);
        pthread_create(threads + 2 * i + 1, NULL, shared, one);
    }
    pthread_create(threads + 2 * CALLERS, NULL, come_and_go, NULL);
    for (int i = 0; i < 2 * CALLERS + 1; i++) pthread_join(threads[i], NULL);
    llama_program_free(one);
    for (int i = 0; i < 3; i++) llama_pool_free(pools[i]);
    printf("%d faults, %d times busy\n", faults, busy);
    return faults > 96 ? 96 : faults;
}
