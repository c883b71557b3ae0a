/* The inside of a program: what building makes, what planning adds and what a step reads. */
#ifndef LLAMA_PROGRAM_H
#define LLAMA_PROGRAM_H

#include <stdatomic.h>

#include "kernels.h"
#include "llama_cpu.h"
#include "matrix.h"

typedef struct value {
    int32_t width;
    int32_t gathered; /* of the rows that give something alone */
    int32_t whole;    /* planning: read by an instruction of all rows */
    int32_t born, dies; /* moments: number of the first writer, of the last reader */
    size_t offset; /* into the arena */
    float *data;
    size_t stride; /* numbers from row to row */
} value;

/* How the activations of a linear are handed to its kernel. */
enum prepare_mode {
    PREPARE_NONE,   /* as they are */
    PREPARE_COPY,   /* padded with zeros */
    PREPARE_ROUND,  /* rounded to codes and back, in blocks */
    PREPARE_STATIC, /* the same by one fixed scale */
    PREPARE_CODES   /* as integer codes */
};

typedef struct prepare {
    int32_t mode, block, unit, most;
    float step;
    const int32_t *order;
} prepare;

typedef struct instruction {
    llama_op op; /* its pointers are our own copies */
    prepare how; /* linear; moe: of gate and up */
    prepare then; /* moe: of down */
    int32_t span; /* linears from here on that run together, 0 inside such a run */
} instruction;

typedef struct rope_table {
    int32_t half, count;
    float *cosines, *sines;
} rope_table;

typedef struct kv_group {
    int32_t layers, kv_heads, head_dim;
    int32_t window; /* 0: all */
    kv_layer *memory; /* [layers] */
} kv_group;

/* Rows through one matrix: the unit of work of linears. */
typedef struct job {
    const matrix *m;
    const float *x; /* or NULL: codes */
    size_t x_stride;
    const codes *codes;
    int32_t row, rows; /* `row` is the first one among the codes */
    float *y;
    size_t y_stride;
    const float *bias;
    int32_t first_task, panels_a_task, row_blocks;
} job;

/* Arrays that a step fills. */
typedef struct scratch {
    int32_t *starts;    /* [sequences + 1] of the rows at hand */
    int32_t *sequence;  /* [T] of each row */
    int32_t *gathered;  /* [T] rows that give something */
    float *floats;      /* [rows][float_stride] prepared activations */
    size_t float_stride;
    codes codes;
    job *jobs;
    int32_t *experts;   /* [T * top_k] expert of each choice, and then its place among the sorted */
    int32_t *places;
    float *shares;      /* [T * top_k] */
    int32_t *expert_starts;
    float *moe_x, *moe_gate, *moe_up, *moe_down; /* [T * top_k][stride] */
    size_t moe_stride;
    float *lora; /* [threads][lora_stride] */
    size_t lora_stride;
    int32_t *tiles;     /* [sequences + 1] attention tiles before each sequence */
} scratch;

#define MAX_MESSAGE 240
#define MOST_ROWS (1 << 24) /* of a step: what they need then fits the numbers that count it */

struct llama_program {
    llama_pool *pool;
    const kernels *k;
    llama_limits limits;
    int32_t num_groups, num_values, num_weights, num_instructions, num_ropes;
    kv_group *groups;
    value *values;
    matrix *weights;
    instruction *instructions;
    rope_table *ropes;
    int32_t logits, hidden;
    int32_t finished, num_slots; /* of adapters */
    int32_t rows_at_once; /* of a step: its buffers hold no more, and are [T] of so many */
    void *arena_room;
    float *arena; /* the aligned part of it */
    size_t arena_bytes, kv_bytes;
    scratch s;
    atomic_flag busy;
    char message[MAX_MESSAGE];
    /* The step under way. */
    const llama_batch *batch;
    int32_t num_gathered;
    int64_t *times; /* [num_instructions][2] of the clock, or NULL */
};

/* A status, with what to say of it. */
int32_t program_fail(llama_program *p, int32_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Room for one more of `size` bytes in an array of `count` of them. */
int program_grow(void *array, int32_t count, size_t size);

/* Take the program for one call, and give it back. */
int32_t program_enter(llama_program *p);
int32_t program_leave(llama_program *p, int32_t status);

int32_t plan_program(llama_program *p);             /* plan.c */
int32_t kv_allocate(llama_program *p);              /* kv.c */
void kv_free(llama_program *p);                     /* kv.c */
int32_t check_batch(llama_program *p, const llama_batch *b, const llama_results *out); /* batch.c */
int chain_makes_sense(const llama_chain *chain); /* sample.c */
void run_linears(llama_program *p, const instruction *i, int32_t rows);  /* linear.c */
void run_attention(llama_program *p, const llama_op *op);                /* attend.c */
void run_moe(llama_program *p, const instruction *i);                    /* moe.c */

/* Which rows of a value an instruction reads for the rows of its output; NULL for the same. */
static inline const int32_t *rows_of(const llama_program *p, const value *in, const value *out) {
    return out->gathered && !in->gathered ? p->s.gathered : NULL;
}

static inline const float *row_for(const llama_program *p, const value *in, const value *out, int32_t r) {
    const int32_t *which = rows_of(p, in, out);
    return in->data + (size_t)(which ? which[r] : r) * in->stride;
}

/* linear.c, for moe.c too. `which` are the rows of x, NULL for the first ones. */
void prepare_rows(llama_program *p, const prepare *how, const matrix *m, const float *x,
                  size_t x_stride, const int32_t *which, int32_t rows);
void run_jobs(llama_program *p, job *jobs, int32_t count);
job prepared_job(const llama_program *p, const prepare *how, const matrix *m, const float *x,
                 size_t x_stride, int32_t row, int32_t rows, float *y, size_t y_stride);
prepare prepare_for(const matrix *m, int32_t act, int32_t block, float step, const int32_t *order);

#endif
