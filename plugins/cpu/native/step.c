/* One step: the batch is checked, the instructions run in order, and what rows asked for is handed
 * over. Operations on single rows are cheap, so few of them do not wake the pool. */
#include <string.h>
#include <time.h>

#include "pool.h"
#include "program.h"

#define NUMBERS_A_TASK 16384 /* of a row-wise operation: about 5 us of work */

typedef struct rowwise {
    llama_program *p;
    const llama_op *op;
    const value *x, *z, *out;
    int32_t rows, rows_a_task;
} rowwise;

static void embed(const rowwise *w, int32_t r, float *y) {
    const llama_batch *b = w->p->batch;
    const size_t width = (size_t)w->out->width;
    if (b->tokens[r] < 0)
        memcpy(y, b->embeddings + (size_t)r * width, width * sizeof(float));
    else
        matrix_row(w->p->weights + w->op->weights[0], b->tokens[r], y);
}

static void turn(const rowwise *w, int32_t r, const float *x, float *y) {
    const rope_table *t = w->p->ropes + w->op->rope;
    const size_t at = (size_t)w->p->batch->positions[r] * (size_t)t->half;
    w->p->k->rope(x, w->x->width, w->op->head_dim, t->half, t->cosines + at, t->sines + at, y);
}

/* base + b(a(x)) with the matrices of the row's slot. */
static void adapt(const rowwise *w, int32_t r, const float *base, const float *x, int32_t thread,
                  float *y) {
    llama_program *p = w->p;
    const int32_t row = p->values[w->op->output].gathered ? p->s.gathered[r] : r;
    const int32_t slot = p->batch->adapters ? p->batch->adapters[p->s.sequence[row]] : -1;
    memcpy(y, base, (size_t)w->out->width * sizeof(float));
    if (slot < 0) return;
    const matrix *a = p->weights + w->op->weights[2 * slot], *b = p->weights + w->op->weights[2 * slot + 1];
    float *inner = p->s.lora + (size_t)thread * p->s.lora_stride;
    float *more = inner + (a->rows + 15) / 16 * 16;
    p->k->linear_float(a, 0, a->panels, x, w->z->stride, 1, inner, 0, NULL);
    p->k->linear_float(b, 0, b->panels, inner, 0, 1, more, 0, NULL);
    p->k->add(y, more, w->out->width, y);
}

static void row_task(void *context, int32_t task, int32_t thread) {
    const rowwise *w = context;
    const llama_op *op = w->op;
    const kernels *k = w->p->k;
    const int32_t from = task * w->rows_a_task, width = w->out->width;
    for (int32_t r = from; r < from + w->rows_a_task && r < w->rows; r++) {
        const float *x = w->x ? row_for(w->p, w->x, w->out, r) : NULL;
        const float *z = w->z ? row_for(w->p, w->z, w->out, r) : NULL;
        float *y = w->out->data + (size_t)r * w->out->stride;
        switch (op->kind) {
        case LLAMA_EMBED: embed(w, r, y); break;
        case LLAMA_RMS_NORM: k->rms_norm(x, width, op->vector, op->vector_size, op->eps, op->offset, y); break;
        case LLAMA_LAYER_NORM: k->layer_norm(x, width, op->vector, op->bias, op->eps, y); break;
        case LLAMA_ROPE: turn(w, r, x, y); break;
        case LLAMA_ACTIVATION: k->activation(op->fn, x, width, y); break;
        case LLAMA_GLU: k->glu(op->fn, x, z, width, y); break;
        case LLAMA_ADD: k->add(x, z, width, y); break;
        case LLAMA_MUL: k->mul(x, z, op->by, width, y); break;
        case LLAMA_SOFTCAP: k->softcap(x, op->by, width, y); break;
        case LLAMA_SLICE: memcpy(y, x + op->start, (size_t)width * sizeof(float)); break;
        case LLAMA_GATHER: memcpy(y, x, (size_t)width * sizeof(float)); break;
        case LLAMA_LORA: adapt(w, r, x, z, thread, y); break;
        default: break;
        }
    }
}

static const value *input(const llama_program *p, const llama_op *op, int n) {
    return op->kind != LLAMA_EMBED && op->inputs[n] >= 0 ? p->values + op->inputs[n] : NULL;
}

static void run_rows(llama_program *p, const llama_op *op, int32_t rows) {
    rowwise w = {p, op, input(p, op, 0), input(p, op, 1), p->values + op->output, rows, 1};
    w.rows_a_task = NUMBERS_A_TASK / w.out->width;
    if (op->kind == LLAMA_LORA) w.rows_a_task = 1;
    if (w.rows_a_task < 1) w.rows_a_task = 1;
    pool_run(p->pool, row_task, &w, (rows + w.rows_a_task - 1) / w.rows_a_task, ENOUGH);
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* All instructions, for the rows at hand. */
static void run(llama_program *p, int is_first, int64_t began) {
    int64_t *times = p->times;
    for (int32_t i = 0; i < p->num_instructions; i++) {
        const instruction *one = p->instructions + i;
        const int gathered = p->values[one->op.output].gathered;
        const int32_t rows = gathered ? p->num_gathered : p->batch->num_tokens;
        if (times && is_first) times[2 * i] = one->span ? -1 : -2;
        if (!rows || !one->span) continue;
        const int64_t start = times ? nanoseconds() : 0;
        switch (one->op.kind) {
        case LLAMA_LINEAR: run_linears(p, one, rows); break;
        case LLAMA_ATTENTION: run_attention(p, &one->op); break;
        case LLAMA_MOE: run_moe(p, one); break;
        default: run_rows(p, &one->op, rows); break;
        }
        if (times && times[2 * i] < 0) {
            times[2 * i] = start - began;
            times[2 * i + 1] = 0;
        }
        if (times) times[2 * i + 1] += nanoseconds() - start;
    }
}

int32_t llama_program_clock(llama_program *p, int64_t *times, int32_t count) {
    if (!p || !p->finished) return LLAMA_ARGUMENT;
    const int32_t status = program_enter(p);
    if (status) return status;
    if (times && count != p->num_instructions)
        return program_leave(p, program_fail(p, LLAMA_ARGUMENT, "times of %d instructions, and there are %d",
                                             (int)count, (int)p->num_instructions));
    p->times = times;
    return program_leave(p, LLAMA_OK);
}

/* How many of each have been handed over, and how many tokens of the last sequence. */
typedef struct handed {
    int32_t logits, hidden, tokens, sequence, within;
} handed;

static int32_t hand_over(llama_program *p, const llama_batch *b, const llama_results *out, handed *n) {
    int32_t status = LLAMA_OK;
    const size_t V = (size_t)p->limits.vocab_size, D = (size_t)p->limits.hidden_size;
    for (int32_t g = 0; g < p->num_gathered && !status; g++) {
        const int32_t r = p->s.gathered[g], s = p->s.sequence[r];
        const float *row = p->logits < 0 ? NULL : p->values[p->logits].data + (size_t)g * p->values[p->logits].stride;
        if (s != n->sequence) n->sequence = s, n->within = 0;
        if (b->want[r] == LLAMA_LOGITS) memcpy(out->logits + (size_t)n->logits++ * V, row, V * sizeof(float));
        if (b->want[r] == LLAMA_HIDDEN)
            memcpy(out->hidden + (size_t)n->hidden++ * D,
                   p->values[p->hidden].data + (size_t)g * p->values[p->hidden].stride, D * sizeof(float));
        if (b->want[r] == LLAMA_TOKEN_ID) {
            llama_chain chain = b->chains[s];
            chain.index += (uint32_t)n->within++;
            status = llama_sample(row, p->limits.vocab_size, &chain, out->tokens + n->tokens++);
        }
    }
    return status;
}

/* The rows from `first` on, as many as the buffers take, as a batch of all its sequences. */
static llama_batch part_of(llama_program *p, const llama_batch *b, int32_t first) {
    llama_batch part = *b;
    const int32_t left = b->num_tokens - first;
    part.num_tokens = left < p->rows_at_once ? left : p->rows_at_once;
    part.tokens += first;
    part.positions += first;
    part.want += first;
    if (b->embeddings) part.embeddings += (size_t)first * (size_t)p->limits.hidden_size;
    for (int32_t s = 0; s <= b->num_sequences; s++) {
        const int32_t start = b->starts[s] - first;
        p->s.starts[s] = start < 0 ? 0 : start < part.num_tokens ? start : part.num_tokens;
    }
    part.starts = p->s.starts;
    return part;
}

int32_t llama_program_step(llama_program *p, const llama_batch *b, const llama_results *out) {
    if (!p || !b || !out || !p->finished) return LLAMA_ARGUMENT;
    int32_t status = program_enter(p);
    if (status) return status;
    status = check_batch(p, b, out);
    if (status) return program_leave(p, status);
    const int64_t began = p->times ? nanoseconds() : 0;
    handed n = {.sequence = -1};
    int32_t first = 0;
    do {
        const llama_batch part = part_of(p, b, first);
        p->batch = &part;
        p->num_gathered = 0;
        for (int32_t s = 0; s < part.num_sequences; s++)
            for (int32_t r = part.starts[s]; r < part.starts[s + 1]; r++) {
                p->s.sequence[r] = s;
                if (part.want[r] != LLAMA_NOTHING) p->s.gathered[p->num_gathered++] = r;
            }
        run(p, !first, began);
        status = hand_over(p, &part, out, &n);
        p->batch = NULL;
        first += part.num_tokens;
    } while (!status && first < b->num_tokens);
    return program_leave(p, status);
}
