/* Linears of a step: activations prepared row by row, then panels of all matrices shared out.
 *
 * How the work is cut decides who computes what, never a bit of the result.
 */
#include <string.h>

#include "pool.h"
#include "program.h"

#define ROWS_A_TASK 64  /* 64 rows of 2048 codes stay in the second-level cache */
#define MANY_ROWS 16    /* from here on a task is bounded by its panels' bytes, not by their count */
#define PANELS_OF_MANY 4

/* Columns whose products an integer of 32 bits adds up: 65536 * 255 * 127 < 2^31. */
#define MOST_UNIT (1 << 16)

prepare prepare_for(const matrix *m, int32_t act, int32_t block, float step, const int32_t *order) {
    prepare how = {.mode = PREPARE_NONE, .order = order};
    const int is_narrow = m->kind == M_CODES2 || m->kind == M_CODES1; /* in units of 32 columns */
    const int is_codes = m->kind == M_CODES8 || m->kind == M_CODES4 || is_narrow;
    if (act == LLAMA_ACT_NONE) {
        if (order || (m->group && m->padded != m->cols)) how.mode = PREPARE_COPY;
        return how;
    }
    if (act == LLAMA_ACT_STATIC) {
        how.mode = PREPARE_STATIC;
        how.step = step;
        return how;
    }
    how.mode = PREPARE_ROUND;
    how.block = block;
    how.most = act == LLAMA_ACT_Q7 ? 63 : 127;
    const int32_t wide = block >= m->cols ? m->padded : block;
    if (!is_codes || order || wide % 8) return how;
    const int32_t large = wide > m->group ? wide : m->group, small = wide > m->group ? m->group : wide;
    if (small > MOST_UNIT || (large % small && large != m->padded) || (is_narrow && small % 32)) return how;
    how.mode = PREPARE_CODES;
    how.block = wide;
    how.unit = small;
    return how;
}

typedef struct preparing {
    llama_program *p;
    const prepare *how;
    const matrix *m;
    const float *x;
    size_t x_stride;
    const int32_t *which;
    int32_t rows, rows_a_task;
} preparing;

static void prepare_row(const preparing *w, int32_t r) {
    const kernels *k = w->p->k;
    const prepare *how = w->how;
    scratch *s = &w->p->s;
    const int32_t cols = w->m->cols;
    const float *x = w->x + (size_t)(w->which ? w->which[r] : r) * w->x_stride;
    if (how->mode == PREPARE_CODES) {
        k->quantize(x, cols, &s->codes, r);
        return;
    }
    float *row = s->floats + (size_t)r * s->float_stride;
    float *rounded = how->order ? row + s->float_stride / 2 : row;
    if (how->mode == PREPARE_ROUND) k->round_blocks(x, cols, how->block, how->most, rounded);
    if (how->mode == PREPARE_STATIC) k->round_static(x, cols, how->step, rounded);
    if (how->mode == PREPARE_COPY) rounded = memcpy(rounded, x, (size_t)cols * sizeof(float));
    if (how->order)
        for (int32_t c = 0; c < cols; c++) row[c] = rounded[how->order[c]];
    memset(row + cols, 0, (size_t)(w->m->padded - cols) * sizeof(float));
}

static void prepare_task(void *context, int32_t task, int32_t thread) {
    const preparing *w = context;
    (void)thread;
    int32_t from = task * w->rows_a_task, to = from + w->rows_a_task;
    for (int32_t r = from; r < to && r < w->rows; r++) prepare_row(w, r);
}

void prepare_rows(llama_program *p, const prepare *how, const matrix *m, const float *x,
                  size_t x_stride, const int32_t *which, int32_t rows) {
    if (how->mode == PREPARE_NONE) return;
    p->s.codes.block = how->block;
    p->s.codes.unit = how->unit;
    p->s.codes.most = how->most;
    preparing w = {p, how, m, x, x_stride, which, rows, 4};
    pool_run(p->pool, prepare_task, &w, (rows + 3) / 4, 8 * (size_t)rows * (size_t)m->cols);
}

job prepared_job(const llama_program *p, const prepare *how, const matrix *m, const float *x,
                 size_t x_stride, int32_t row, int32_t rows, float *y, size_t y_stride) {
    const scratch *s = &p->s;
    job j = {.m = m, .row = row, .rows = rows, .y = y, .y_stride = y_stride};
    if (how->mode == PREPARE_CODES) {
        j.codes = &s->codes;
    } else if (how->mode == PREPARE_NONE) {
        j.x = x + (size_t)row * x_stride;
        j.x_stride = x_stride;
    } else {
        j.x = s->floats + (size_t)row * s->float_stride;
        j.x_stride = s->float_stride;
    }
    return j;
}

typedef struct running {
    const kernels *k;
    const job *jobs;
    int32_t count;
} running;

static void job_task(void *context, int32_t task, int32_t thread) {
    const running *w = context;
    const job *j = w->jobs;
    (void)thread;
    while (j + 1 < w->jobs + w->count && j[1].first_task <= task) j++;
    task -= j->first_task;
    const int32_t block = task % j->row_blocks, panel = task / j->row_blocks * j->panels_a_task;
    const int32_t left = j->m->panels - panel, row = block * ROWS_A_TASK;
    const int32_t panels = left < j->panels_a_task ? left : j->panels_a_task;
    const int32_t rows = j->rows - row < ROWS_A_TASK ? j->rows - row : ROWS_A_TASK;
    float *y = j->y + (size_t)row * j->y_stride;
    if (j->x)
        w->k->linear_float(j->m, panel, panels, j->x + (size_t)row * j->x_stride, j->x_stride, rows,
                           y, j->y_stride, j->bias);
    else
        w->k->linear_codes(j->m, panel, panels, j->codes, j->row + row, rows, y, j->y_stride, j->bias);
}

void run_jobs(llama_program *p, job *jobs, int32_t count) {
    int32_t tasks = 0, all = 0;
    size_t work = 0;
    for (int32_t i = 0; i < count; i++) {
        const matrix *m = jobs[i].m;
        all += m->panels;
        work += (size_t)jobs[i].rows * (size_t)m->panels * PANEL * (size_t)m->cols;
    }
    /* Few rows: eight tasks a thread, in fours of panels that a kernel streams side by side. */
    int32_t few = (all / (8 * llama_pool_threads(p->pool)) + 3) / 4 * 4;
    for (int32_t i = 0; i < count; i++) {
        job *j = jobs + i;
        j->first_task = tasks;
        j->panels_a_task = j->rows >= MANY_ROWS ? PANELS_OF_MANY : few < 4 ? 4 : few;
        j->row_blocks = (j->rows + ROWS_A_TASK - 1) / ROWS_A_TASK;
        tasks += j->row_blocks * ((j->m->panels + j->panels_a_task - 1) / j->panels_a_task);
    }
    running w = {p->k, jobs, count};
    pool_run(p->pool, job_task, &w, tasks, work);
}

void run_linears(llama_program *p, const instruction *i, int32_t rows) {
    const value *in = p->values + i->op.inputs[0];
    prepare_rows(p, &i->how, p->weights + i->op.weights[0], in->data, in->stride,
                 rows_of(p, in, p->values + i->op.output), rows);
    for (int32_t n = 0; n < i->span; n++) {
        const llama_op *op = &i[n].op;
        const value *out = p->values + op->output;
        p->s.jobs[n] = prepared_job(p, &i->how, p->weights + op->weights[0], in->data, in->stride,
                                    0, rows, out->data, out->stride);
        p->s.jobs[n].bias = op->vector;
    }
    run_jobs(p, p->s.jobs, i->span);
}
