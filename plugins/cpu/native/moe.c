/* Mixture of experts: rows are sorted by expert, each expert sees its rows at once, and every row
 * adds up its experts' answers in the order of their shares.
 *
 * Legend: T rows, E experts, C choices (T times top_k): choice c is of row c / top_k.
 */
#include <string.h>

#include "pool.h"
#include "program.h"

typedef struct mixing {
    llama_program *p;
    const llama_op *op;
    const value *x, *scores, *out;
    int32_t rows, experts;
} mixing;

/* The top_k shares, the lower number first on a tie, as a stable sort would have it. */
static void choose(const mixing *w, int32_t row) {
    scratch *s = &w->p->s;
    const int32_t K = w->op->top_k;
    float *share = s->shares + (size_t)w->rows * (size_t)K; /* [E] spare room behind the choices */
    w->p->k->softmax(row_for(w->p, w->scores, w->out, row), w->experts, share);
    int32_t *chosen = s->experts + row * K;
    float *shares = s->shares + row * K, total = 0;
    for (int32_t n = 0; n < K; n++) {
        int32_t best = -1;
        for (int32_t e = 0; e < w->experts; e++) {
            int taken = 0;
            for (int32_t m = 0; m < n; m++) taken |= chosen[m] == e;
            if (!taken && (best < 0 || share[e] > share[best])) best = e;
        }
        chosen[n] = best;
        shares[n] = share[best];
        total += share[best];
    }
    for (int32_t n = 0; w->op->normalize && n < K; n++) shares[n] /= total;
}

/* Where each choice stands when they are sorted by expert. */
static void sort_choices(const mixing *w) {
    scratch *s = &w->p->s;
    const int32_t choices = w->rows * w->op->top_k;
    int32_t *start = s->expert_starts, *next = start + w->experts + 1;
    memset(start, 0, (size_t)(w->experts + 1) * sizeof *start);
    for (int32_t c = 0; c < choices; c++) start[s->experts[c] + 1]++;
    for (int32_t e = 0; e < w->experts; e++) {
        start[e + 1] += start[e];
        next[e] = start[e];
    }
    for (int32_t c = 0; c < choices; c++) s->places[c] = next[s->experts[c]]++;
}

static void gather_task(void *context, int32_t row, int32_t thread) {
    const mixing *w = context;
    scratch *s = &w->p->s;
    (void)thread;
    for (int32_t n = 0; n < w->op->top_k; n++)
        memcpy(s->moe_x + (size_t)s->places[row * w->op->top_k + n] * s->moe_stride,
               row_for(w->p, w->x, w->out, row), (size_t)w->x->width * sizeof(float));
}

static void glu_task(void *context, int32_t c, int32_t thread) {
    const mixing *w = context;
    scratch *s = &w->p->s;
    float *gate = s->moe_gate + (size_t)c * s->moe_stride;
    (void)thread;
    w->p->k->glu(w->op->fn, gate, s->moe_up + (size_t)c * s->moe_stride,
                 w->p->weights[w->op->weights[0]].rows, gate);
}

static void combine_task(void *context, int32_t row, int32_t thread) {
    const mixing *w = context;
    scratch *s = &w->p->s;
    float *out = w->out->data + (size_t)row * w->out->stride;
    (void)thread;
    memset(out, 0, (size_t)w->out->width * sizeof(float));
    for (int32_t n = 0; n < w->op->top_k; n++) {
        const int32_t c = row * w->op->top_k + n;
        w->p->k->add_scaled(s->moe_down + (size_t)s->places[c] * s->moe_stride, s->shares[c],
                            w->out->width, out);
    }
}

/* The `which`-th matrix of every expert that was chosen, over its rows. */
static int32_t add_jobs(const mixing *w, const prepare *how, int32_t which, const float *x, float *y,
                        int32_t count) {
    scratch *s = &w->p->s;
    for (int32_t e = 0; e < w->experts; e++) {
        const int32_t from = s->expert_starts[e], rows = s->expert_starts[e + 1] - from;
        if (!rows) continue;
        const matrix *m = w->p->weights + w->op->weights[3 * e + which];
        s->jobs[count++] = prepared_job(w->p, how, m, x, s->moe_stride, from, rows,
                                        y + (size_t)from * s->moe_stride, s->moe_stride);
    }
    return count;
}

void run_moe(llama_program *p, const instruction *i) {
    const llama_op *op = &i->op;
    mixing w = {p, op, p->values + op->inputs[0], p->values + op->inputs[1], p->values + op->output,
                p->batch->num_tokens, op->num_weights / 3};
    if (p->values[op->output].gathered) w.rows = p->num_gathered;
    scratch *s = &p->s;
    const int32_t choices = w.rows * op->top_k;
    for (int32_t row = 0; row < w.rows; row++) choose(&w, row);
    sort_choices(&w);
    pool_run(p->pool, gather_task, &w, w.rows, ENOUGH);
    prepare_rows(p, &i->how, p->weights + op->weights[0], s->moe_x, s->moe_stride, NULL, choices);
    int32_t jobs = add_jobs(&w, &i->how, 0, s->moe_x, s->moe_gate, 0);
    run_jobs(p, s->jobs, add_jobs(&w, &i->how, 1, s->moe_x, s->moe_up, jobs));
    pool_run(p->pool, glu_task, &w, choices, ENOUGH);
    prepare_rows(p, &i->then, p->weights + op->weights[2], s->moe_gate, s->moe_stride, NULL, choices);
    run_jobs(p, s->jobs, add_jobs(&w, &i->then, 2, s->moe_gate, s->moe_down, 0));
    pool_run(p->pool, combine_task, &w, w.rows, ENOUGH);
}
