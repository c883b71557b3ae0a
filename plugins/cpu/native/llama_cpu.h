/* llama_cpu.h: the CPU kernels of llama-plugin-cpu, for Python and for any other language.
 *
 * A program is built once (values, weights, operations, then `llama_program_finish`), and then
 * stepped: one call runs a whole batch of rows through all operations on the pool's threads.
 *
 * Every function that can fail gives a llama_status and never aborts; what is handed out through
 * `out` or `id` is written only where it is LLAMA_OK, and `llama_program_message` says more.
 *
 * Threads: a pool serves any number of programs and threads, whose steps take turns. A program is
 * built by one thread. Once finished it may be called from any; of two calls at once that step,
 * copy, rewrite, turn or set a clock, the second gets LLAMA_BUSY. After a fork the child has none of
 * the pool's threads, so these calls give LLAMA_FORKED there; freeing is allowed. Nothing here is
 * for a signal handler.
 *
 * Memory: what a call is given it copies, unless it says otherwise; pools and programs are the
 * caller's to free, texts are the library's. A NULL where something is needed is LLAMA_ARGUMENT.
 *
 * Results do not depend on the number of threads, on what shares a batch, or on how a sequence is
 * cut into steps: within a tier they are the same bits.
 *
 * What stands between the two marks is also what cffi reads, so it holds no preprocessor lines.
 */
#ifndef LLAMA_CPU_H
#define LLAMA_CPU_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* cdef: begin */

/* Raised with every change of what is declared here. From any thread. */
int32_t llama_abi(void);

enum llama_status {
    LLAMA_OK = 0,
    LLAMA_MEMORY = 1,    /* not enough memory */
    LLAMA_ARGUMENT = 2,  /* a number or pointer that makes no sense; the message says which */
    LLAMA_TOKEN = 3,     /* a token id outside the vocabulary */
    LLAMA_POSITION = 4,  /* a position outside the context, or out of order in its sequence */
    LLAMA_BLOCK = 5,     /* a block id that does not exist, or a block that is missing */
    LLAMA_LIMIT = 6,     /* more rows or sequences than the program was made for */
    LLAMA_BUSY = 7,      /* another thread is using this program */
    LLAMA_FORKED = 8,    /* the pool's threads stayed behind in the parent process */
    LLAMA_TIER = 9,      /* the tier asked for is unknown or does not run here */
    LLAMA_NAN = 10,      /* a weight is not a number */
    LLAMA_THREADS = 11,  /* LLAMA_CPU_THREADS is set to what is no number from 1 to 256 */
    LLAMA_FILE = 12      /* a file is no program, is cut short, or was written for another ABI */
};

/* One short sentence for a status, never NULL and never to be freed. From any thread. */
const char *llama_status_text(int32_t status);

/* ---- tiers and threads ---------------------------------------------------------------------- */

/* These may be called from any thread; the texts are never to be freed. */

/* The names of all tiers compiled in, best first: NULL past the last. */
const char *llama_tier_name(int32_t index);
/* 1 where the processor and the operating system run the tier of this name. */
int32_t llama_tier_runs(const char *name);
/* The tier in use: LLAMA_CPU_TIER where it is set, else the best that runs; NULL if that does
 * not run here. Chosen at the first call. */
const char *llama_tier(void);
/* Choose another tier for programs made from now on, by any thread; NULL for the choice at start.
 * LLAMA_TIER where it does not run here, and then nothing changes. */
int32_t llama_tier_use(const char *name);
/* How many processors this process may use: affinity and cgroup quota respected. */
int32_t llama_cpu_count(void);

typedef struct llama_pool llama_pool;

/* A pool of `threads` threads, the caller's own included; 0 for LLAMA_CPU_THREADS or, where that
 * is not set, llama_cpu_count(). The threads block all signals and sleep between steps.
 * LLAMA_ARGUMENT outside of 0 to 256, LLAMA_THREADS, LLAMA_MEMORY. */
int32_t llama_pool_new(int32_t threads, llama_pool **out);
/* How many it has, 0 for NULL. */
int32_t llama_pool_threads(const llama_pool *pool);
/* After the last of its programs is freed, when no call is under way. NULL is nothing to free. */
void llama_pool_free(llama_pool *pool);

/* ---- building a program --------------------------------------------------------------------- */

typedef struct llama_program llama_program;

enum llama_kv_type { LLAMA_KV_F32 = 0, LLAMA_KV_F16 = 1, LLAMA_KV_BF16 = 2, LLAMA_KV_Q8 = 3 };

typedef struct llama_limits {
    int32_t vocab_size;
    int32_t hidden_size;
    int32_t context_length;
    int32_t max_tokens;    /* rows a step */
    int32_t max_sequences; /* sequences a step */
    int32_t block_size;    /* tokens in a block */
    int32_t num_blocks;    /* blocks in each group */
    int32_t kv_type;       /* of llama_kv_type */
} llama_limits;

enum llama_weight_kind {
    LLAMA_W_F32 = 0,
    LLAMA_W_F16 = 1,
    LLAMA_W_BF16 = 2,
    LLAMA_W_AFFINE = 3, /* scale * (code - zero) + minimum, a scale for `group` columns */
    LLAMA_W_TABLE = 4   /* scale * table[code], codes of 4 bits */
};

/* A matrix [rows, cols] as it is handed over; it is copied and packed, and may go afterwards. */
typedef struct llama_weight_source {
    int32_t kind;
    int32_t rows;
    int32_t cols;
    int32_t bits;          /* of a code: 1 to 8 */
    int32_t group;         /* columns under one scale: a multiple of 8, or at least cols */
    int32_t zero;          /* the code that means zero, before the minimum; of one bit, in halves */
    const void *data;      /* numbers, or codes of one byte each [rows, cols] */
    const float *scales;   /* [rows, groups] */
    const float *minimums; /* [rows, groups] or NULL */
    const float *table;    /* [16] of LLAMA_W_TABLE */
} llama_weight_source;

/* A matrix as it lies packed, to be kept in a file and read back: what `llama_program_packed` tells
 * and `llama_program_adopt` takes, under the same `llama_packing`. All memory is aligned to 64. */
typedef struct llama_packed {
    int32_t kind; /* our own */
    int32_t rows;
    int32_t cols;
    int32_t group;
    int32_t zero;
    int32_t wide;
    float table[16];
    int64_t data_bytes;
    int64_t small_bytes; /* of the scales, and as much of the minimums */
    const void *data;
    const void *scales;   /* or NULL */
    const void *minimums; /* or NULL */
} llama_packed;

enum llama_op_kind {
    LLAMA_EMBED = 0,
    LLAMA_RMS_NORM = 1,
    LLAMA_LAYER_NORM = 2,
    LLAMA_LINEAR = 3,
    LLAMA_ROPE = 4,
    LLAMA_ATTENTION = 5,
    LLAMA_ACTIVATION = 6,
    LLAMA_GLU = 7,
    LLAMA_ADD = 8,
    LLAMA_MUL = 9,
    LLAMA_SOFTCAP = 10,
    LLAMA_SLICE = 11,
    LLAMA_GATHER = 12, /* the rows that give something */
    LLAMA_MOE = 13,
    LLAMA_LORA = 14
};

enum llama_fn {
    LLAMA_SILU = 0,
    LLAMA_GELU = 1,
    LLAMA_GELU_TANH = 2,
    LLAMA_RELU = 3,
    LLAMA_SIGMOID = 4,
    LLAMA_TANH = 5
};

enum llama_act {
    LLAMA_ACT_NONE = 0,
    LLAMA_ACT_Q8 = 1,     /* 8-bit codes, one scale for `act_block` columns of a row */
    LLAMA_ACT_STATIC = 2, /* 8-bit codes, one fixed scale `act_scale` */
    LLAMA_ACT_Q7 = 3      /* codes of 7 bits, -63..63, otherwise as Q8 */
};

/* One operation. Fields that its kind does not name are not read. */
typedef struct llama_op {
    int32_t kind;
    int32_t output;    /* value ids */
    int32_t inputs[3]; /* -1 for none */
    int32_t num_weights;
    const int32_t *weights; /* embed, linear: matrix; moe: gate, up, down of each expert in turn;
                               lora: a and b of each slot in turn */
    const float *vector;    /* norms: weight; linear: bias or NULL. Copied. */
    const float *bias;      /* layer_norm: bias or NULL. Copied. */
    const int32_t *order;   /* linear: column k of the weight reads input order[k]; or NULL */
    int32_t vector_size;    /* norms: width of the weight, which may be one head's */
    int32_t act;            /* linear, moe: of llama_act */
    int32_t act_block;
    float act_scale;
    int32_t fn;         /* activation, glu, moe: of llama_fn */
    float eps;          /* norms */
    float offset;       /* rms_norm: added to the weight */
    float by;           /* mul: factor; softcap: cap */
    int32_t start;      /* slice: first column */
    int32_t head_dim;   /* rope, attention */
    int32_t rotary_dim; /* rope */
    int32_t rope;       /* rope: which table */
    int32_t group;      /* attention: which block tables */
    int32_t slot;       /* attention: which layer of its group */
    int32_t heads;      /* attention */
    int32_t kv_heads;   /* attention */
    int32_t window;     /* attention: tokens seen, itself included; 0 for all */
    float scale;        /* attention */
    float softcap;      /* attention: 0 for none */
    int32_t top_k;      /* moe */
    int32_t normalize;  /* moe */
} llama_op;

/* An empty program of the tier in use. `pool` must outlive it. LLAMA_ARGUMENT where a limit is below
 * 1, or rows or sequences are above 2^24; LLAMA_TIER, LLAMA_MEMORY. */
int32_t llama_program_new(llama_pool *pool, const llama_limits *limits, llama_program **out);
/* The calls from here to `llama_program_finish` build. After it they give LLAMA_ARGUMENT, but for
 * those to look at matrices and to rewrite them and for angles. LLAMA_ARGUMENT is also for numbers
 * that make no sense, and the message says which; any may give LLAMA_MEMORY.
 *
 * Layers whose attention shares a block table; groups are numbered from 0. */
int32_t llama_program_group(llama_program *p, int32_t layers, int32_t kv_heads, int32_t head_dim);
/* A value [rows, width]; `gathered` values have the rows that give something. Numbered from 0. */
int32_t llama_program_value(llama_program *p, int32_t width, int32_t gathered, int32_t *id);
/* Pack a matrix, on the pool's threads; numbered from 0. LLAMA_NAN where a number, a scale, a minimum
 * or an entry of its table is not a number; LLAMA_FORKED. */
int32_t llama_program_weight(llama_program *p, const llama_weight_source *source, int32_t *id);
/* The same in parts, so that the source need not be in memory at once. The part that begins at row 0
 * makes a matrix of `rows` rows and gives its id; the others go on with it, in order, each but the
 * last with a multiple of 16 rows. */
int32_t llama_program_weight_part(llama_program *p, const llama_weight_source *source, int32_t row,
                                  int32_t rows, int32_t *id);
/* Raised with every change in how matrices lie packed. From any thread. */
int32_t llama_packing(void);
/* How a matrix lies; its pointers are the program's, to be read until it is freed or the matrix is
 * rewritten. */
int32_t llama_program_packed(const llama_program *p, int32_t weight, llama_packed *out);
/* A matrix that was packed before, in memory that stays the caller's and must stay as it is until the
 * program is freed. Sizes are checked, the numbers are not. */
int32_t llama_program_adopt(llama_program *p, const llama_packed *packed, int32_t *id);
/* Rewrite a matrix of 32-bit floats in place, an adapter's say, between steps: [rows, cols] numbers.
 * LLAMA_NAN, LLAMA_MEMORY, and then it stays as it was; LLAMA_BUSY, LLAMA_FORKED. */
int32_t llama_program_rewrite(llama_program *p, int32_t weight, const float *data);
/* Add an operation; it reads values that operations before it write. LLAMA_NAN where its vector or
 * bias holds what is not a number. */
int32_t llama_program_add(llama_program *p, const llama_op *op);
/* Cosines and sines [count, half] of the next `count` positions of a table, numbered from 0. Tables
 * that are there may grow after `llama_program_finish`, too: the context ends where the shortest does.
 * LLAMA_NAN, and then it stays as it was; LLAMA_BUSY, LLAMA_FORKED. */
int32_t llama_program_rope(llama_program *p, int32_t table, int32_t half, int32_t count,
                           const float *cosines, const float *sines);
/* Plan buffers and take memory for past tokens; `logits` and `hidden` are gathered values, or -1. A
 * failure leaves the program to be finished otherwise, or to be freed. */
int32_t llama_program_finish(llama_program *p, int32_t logits, int32_t hidden);

/* Or all of that at once, from a file that `python -m llama_plugin_cpu.export` wrote. `limits` says
 * what to make room for, and its vocab_size, hidden_size and context_length are filled in from the
 * file. LLAMA_FILE, and what the calls above give. Where it fails `*out` is NULL or a program, to ask
 * for the message and to be freed. */
int32_t llama_program_load(llama_pool *pool, const char *path, llama_limits *limits,
                           llama_program **out);
/* How many groups there are, each with a block table for every sequence of a batch; 0 for NULL. */
int32_t llama_program_groups(const llama_program *p);

/* ---- running it ----------------------------------------------------------------------------- */

enum llama_want { LLAMA_NOTHING = 0, LLAMA_LOGITS = 1, LLAMA_HIDDEN = 2, LLAMA_TOKEN_ID = 3 };

enum llama_link {
    LLAMA_TEMPERATURE = 0,
    LLAMA_TOP_K = 1,
    LLAMA_TOP_P = 2,
    LLAMA_MIN_P = 3,
    LLAMA_GREEDY = 4,     /* ends a chain */
    LLAMA_MULTINOMIAL = 5 /* ends a chain */
};

/* A sampling chain: `count` links with a number each, the last a sampler. */
typedef struct llama_chain {
    int32_t count;
    const int32_t *links;
    const double *numbers;
    uint64_t seed;
    uint32_t index; /* of the output token, the counter of the random stream */
} llama_chain;

/* Rows of sequence s are starts[s] up to starts[s + 1]. Lengths are checked by the caller's own
 * means; what is read is bounded by num_tokens, num_sequences and num_block_ids. */
typedef struct llama_batch {
    int32_t num_tokens;
    int32_t num_sequences;
    int32_t num_block_ids;
    const int32_t *tokens;
    const int32_t *positions;
    const int32_t *starts;       /* [num_sequences + 1] */
    const int32_t *blocks;       /* block ids, group by group and sequence by sequence */
    const int32_t *block_starts; /* [groups * num_sequences + 1] */
    const uint8_t *want;         /* of llama_want */
    const int32_t *adapters;     /* slot of each sequence, -1 for none; or NULL */
    const float *embeddings;     /* [num_tokens, hidden] for rows whose token is -1; or NULL */
    const llama_chain *chains;   /* [num_sequences], needed where a row wants a token */
} llama_batch;

/* Where results go, in the order of the rows that asked; NULL where no row does. */
typedef struct llama_results {
    float *logits;   /* [rows that want logits, vocab_size] */
    float *hidden;   /* [rows that want hidden, hidden_size] */
    int32_t *tokens; /* [rows that want a token]; -1 where no logit was a number */
} llama_results;

/* Run a batch. The batch and the room for results are the caller's, and are not looked at afterwards.
 * LLAMA_TOKEN, LLAMA_POSITION, LLAMA_BLOCK, LLAMA_LIMIT, LLAMA_ARGUMENT before anything has run;
 * LLAMA_BUSY, LLAMA_FORKED. LLAMA_MEMORY where there is no room to sort a vocabulary for a chain: the
 * step has run then, but its results are not whole. */
int32_t llama_program_step(llama_program *p, const llama_batch *batch, const llama_results *out);
/* Hold a clock to the instructions of every step from now on: `times` has room for two numbers of
 * each of the `count` instructions, nanoseconds since the step began and nanoseconds taken. The
 * first is -1 where an instruction had no rows, -2 where it ran together with the one before it.
 * NULL puts the clock away; until then `times` must stay. LLAMA_ARGUMENT where `count` is another,
 * LLAMA_BUSY, LLAMA_FORKED. */
int32_t llama_program_clock(llama_program *p, int64_t *times, int32_t count);
/* Copy blocks: `count` triples of group, from, to. LLAMA_BLOCK where one is not there, before any is
 * copied; LLAMA_BUSY, LLAMA_FORKED. */
int32_t llama_program_copy(llama_program *p, const int32_t *triples, int32_t count);
/* What went wrong in the program's last failed call, empty where nothing did. The text is the
 * program's and lasts until its next call; read it on the thread that made the failed one. */
const char *llama_program_message(const llama_program *p);
/* Bytes of packed weights (`what` is 0), of the memory of past tokens (1), of the step's own
 * buffers (2). */
int64_t llama_program_bytes(const llama_program *p, int32_t what);
/* When no call on it is under way. NULL is nothing to free. */
void llama_program_free(llama_program *p);

/* Choose a token from one row of logits; -1 where one is not a number or the greatest is infinite.
 * LLAMA_ARGUMENT where the chain makes no sense, LLAMA_MEMORY. From any thread, without a program. */
int32_t llama_sample(const float *logits, int32_t vocab_size, const llama_chain *chain,
                     int32_t *token);

/* cdef: end */

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#endif
