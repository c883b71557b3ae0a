/* Planning: what only gathered rows need is made for them alone, linears that read the same rows run
 * together, values share buffers, scratch is sized.
 *
 * Moments are numbers of instructions; those that run together share one. A buffer is taken over
 * only by a value that is born after the last reader of the one before.
 */
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "program.h"

#define ROWS_A_THREAD 64
#define ROWS_AT_LEAST 128 /* a task's */

static int by_place(int32_t kind) { /* reads tokens, positions or a past: those of all rows */
    return kind == LLAMA_EMBED || kind == LLAMA_ROPE || kind == LLAMA_ATTENTION;
}

/* Rows are computed alone, so what no instruction of all rows reads need not be there for all: of a
 * prompt's last layer that is whatever comes after attention. Who reads a value of all rows for some
 * of them picks these out, as a gather does. */
static void gather_early(llama_program *p) {
    for (int32_t i = p->num_instructions - 1; i >= 0; i--) {
        instruction *one = p->instructions + i;
        value *out = p->values + one->op.output;
        if (!out->whole && !by_place(one->op.kind)) out->gathered = 1;
        for (int n = 0; n < 3 && one->op.kind != LLAMA_EMBED && !out->gathered; n++)
            if (one->op.inputs[n] >= 0) p->values[one->op.inputs[n]].whole = 1;
    }
    for (int32_t i = 0; i < p->num_instructions; i++) {
        instruction *one = p->instructions + i;
        if (one->op.kind != LLAMA_LINEAR || one->how.mode != PREPARE_NONE) continue;
        if (p->values[one->op.output].gathered && !p->values[one->op.inputs[0]].gathered)
            one->how.mode = PREPARE_COPY;
    }
}

static int together(const llama_program *p, const instruction *a, const instruction *b) {
    return b->op.kind == LLAMA_LINEAR && a->op.inputs[0] == b->op.inputs[0] && !a->op.order &&
           p->values[a->op.output].gathered == p->values[b->op.output].gathered &&
           !b->op.order && a->how.mode == b->how.mode && a->how.block == b->how.block &&
           a->how.unit == b->how.unit && a->how.step == b->how.step;
}

/* Bring linears of the same input next to the first of them: they depend on nothing in between. */
static void bring_together(llama_program *p) {
    instruction *all = p->instructions;
    for (int32_t i = 0; i < p->num_instructions; i++) {
        if (all[i].op.kind != LLAMA_LINEAR) continue;
        int32_t end = i + 1;
        for (int32_t j = end; j < p->num_instructions; j++) {
            if (!together(p, all + i, all + j)) continue;
            instruction moved = all[j];
            memmove(all + end + 1, all + end, (size_t)(j - end) * sizeof *all);
            all[end++] = moved;
            all[end - 1].span = 0;
        }
        all[i].span = end - i;
        i = end - 1;
    }
}

static void find_lives(llama_program *p) {
    int32_t moment = -1;
    for (int32_t i = 0; i < p->num_instructions; i++) {
        const instruction *one = p->instructions + i;
        moment += one->span != 0;
        p->values[one->op.output].born = moment;
        for (int n = 0; n < 3; n++)
            if (one->op.kind != LLAMA_EMBED && one->op.inputs[n] >= 0)
                p->values[one->op.inputs[n]].dies = moment;
    }
    if (p->logits >= 0) p->values[p->logits].dies = INT32_MAX;
    if (p->hidden >= 0) p->values[p->hidden].dies = INT32_MAX;
}

/* Rows that go through all instructions before the next of a long step do: enough of them that the
 * reading of the weights is small beside the arithmetic. A prompt of 512 on two threads then has
 * buffers of a quarter. */
static int32_t rows_at_once(const llama_program *p) {
    const int32_t rows = ROWS_A_THREAD * llama_pool_threads(p->pool), most = p->limits.max_tokens;
    const int32_t enough = rows < ROWS_AT_LEAST ? ROWS_AT_LEAST : rows;
    return enough < most ? enough : most;
}

typedef struct buffer {
    size_t numbers, start;
    int32_t free_from; /* the moment of its last reader */
} buffer;

/* The smallest free buffer that is large enough, else a new one. Values come in order of birth. */
static int32_t place(buffer *all, int32_t *count, const value *v, size_t numbers) {
    int32_t best = -1;
    for (int32_t b = 0; b < *count; b++)
        if (all[b].free_from < v->born && all[b].numbers >= numbers &&
            (best < 0 || all[b].numbers < all[best].numbers))
            best = b;
    if (best < 0) {
        best = (*count)++;
        all[best].numbers = numbers;
    }
    all[best].free_from = v->dies > v->born ? v->dies : v->born;
    return best;
}

static size_t rounded(size_t n) { return (n + 15) / 16 * 16; }

#define MOST_NUMBERS (SIZE_MAX / 64)

/* How many numbers all values need; 0 where that is more than there could be. */
static size_t place_values(llama_program *p, int32_t *which) {
    buffer *all = calloc((size_t)p->num_values + 1, sizeof *all);
    if (!all) return 0;
    int32_t count = 0;
    for (int32_t i = 0; i < p->num_instructions; i++) {
        const int32_t id = p->instructions[i].op.output;
        value *v = p->values + id;
        v->stride = rounded((size_t)v->width);
        which[id] = place(all, &count, v, v->stride * (size_t)p->rows_at_once);
    }
    size_t total = 16;
    for (int32_t b = 0; b < count && total; b++) {
        all[b].start = total;
        total = all[b].numbers < MOST_NUMBERS - total ? total + all[b].numbers + 16 : 0;
    }
    for (int32_t i = 0; i < p->num_instructions; i++) {
        const int32_t id = p->instructions[i].op.output;
        p->values[id].offset = all[which[id]].start;
    }
    free(all);
    return total;
}

typedef struct sizes {
    size_t float_stride, code_stride, blocks, units, jobs, rows, experts, choices, moe, lora;
} sizes;

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

static void need(sizes *s, const prepare *how, const matrix *m, size_t rows) {
    s->rows = most(s->rows, rows);
    const size_t width = rounded((size_t)m->cols) + 16;
    if (how->mode == PREPARE_CODES) {
        s->code_stride = most(s->code_stride, width + 48);
        s->blocks = most(s->blocks, (size_t)(m->padded / how->block) + 1);
        s->units = most(s->units, (size_t)(m->padded / how->unit) + 1);
    } else if (how->mode != PREPARE_NONE) {
        s->float_stride = most(s->float_stride, how->order ? 2 * width : width);
    }
}

static sizes find_sizes(const llama_program *p) {
    sizes s = {.jobs = 1};
    const size_t T = (size_t)p->rows_at_once;
    for (int32_t i = 0; i < p->num_instructions; i++) {
        const instruction *one = p->instructions + i;
        const llama_op *op = &one->op;
        if (op->kind == LLAMA_LINEAR) {
            need(&s, &one->how, p->weights + op->weights[0], T);
            s.jobs = most(s.jobs, (size_t)one->span);
        }
        if (op->kind == LLAMA_MOE) {
            const matrix *gate = p->weights + op->weights[0], *down = p->weights + op->weights[2];
            const size_t choices = T * (size_t)op->top_k;
            need(&s, &one->how, gate, choices);
            need(&s, &one->then, down, choices);
            s.jobs = most(s.jobs, (size_t)op->num_weights);
            s.experts = most(s.experts, (size_t)op->num_weights / 3);
            s.choices = most(s.choices, choices);
            s.moe = most(s.moe, most(rounded((size_t)gate->rows), rounded((size_t)gate->cols)));
        }
        if (op->kind == LLAMA_LORA) {
            const size_t width = rounded((size_t)p->values[op->output].width);
            for (int32_t w = 0; w < op->num_weights; w += 2) /* the slots' ranks may differ */
                s.lora = most(s.lora, rounded((size_t)p->weights[op->weights[w]].rows) + width);
        }
    }
    return s;
}

/* Hand out parts of one stretch; without a base only their sizes are added up. */
typedef struct carver {
    uint8_t *base;
    size_t at;
} carver;

static void *carve(carver *c, size_t count, size_t size) {
    void *p = c->base ? c->base + c->at : NULL;
    c->at += (count * size + 63) / 64 * 64;
    return p;
}

static void carve_scratch(llama_program *p, const sizes *n, carver *c) {
    const size_t T = (size_t)p->rows_at_once, S = (size_t)p->limits.max_sequences;
    scratch *s = &p->s;
    s->starts = carve(c, S + 1, sizeof(int32_t));
    s->sequence = carve(c, T, sizeof(int32_t));
    s->gathered = carve(c, T, sizeof(int32_t));
    s->tiles = carve(c, S + 1, sizeof(int32_t));
    s->jobs = carve(c, n->jobs, sizeof(job));
    s->float_stride = n->float_stride;
    s->floats = carve(c, n->rows * n->float_stride, sizeof(float));
    s->codes.code_stride = (n->code_stride + 63) / 64 * 64 + 64; /* never a multiple of a page */
    if (s->codes.code_stride % 4096 == 0) s->codes.code_stride += 64;
    s->codes.scale_stride = n->blocks;
    s->codes.sum_stride = n->units;
    s->codes.codes = carve(c, n->code_stride ? n->rows * s->codes.code_stride : 0, 1);
    s->codes.scales = carve(c, n->rows * n->blocks, sizeof(float));
    s->codes.sums = carve(c, n->rows * n->units, sizeof(int32_t));
    s->experts = carve(c, n->choices, sizeof(int32_t));
    s->places = carve(c, n->choices, sizeof(int32_t));
    s->shares = carve(c, n->choices + n->experts, sizeof(float));
    s->expert_starts = carve(c, 2 * n->experts + 2, sizeof(int32_t));
    s->moe_stride = n->moe;
    s->moe_x = carve(c, n->choices * n->moe, sizeof(float));
    s->moe_gate = carve(c, n->choices * n->moe, sizeof(float));
    s->moe_up = carve(c, n->choices * n->moe, sizeof(float));
    s->moe_down = carve(c, n->choices * n->moe, sizeof(float));
    s->lora_stride = n->lora;
    s->lora = carve(c, n->lora * (size_t)llama_pool_threads(p->pool), sizeof(float));
}

int32_t plan_program(llama_program *p) {
    int32_t *which = calloc((size_t)p->num_values + 1, sizeof *which);
    if (!which) return LLAMA_MEMORY;
    p->rows_at_once = rows_at_once(p);
    gather_early(p);
    bring_together(p);
    find_lives(p);
    const size_t numbers = place_values(p, which);
    free(which);
    if (!numbers) return LLAMA_MEMORY;
    const sizes n = find_sizes(p);
    carver c = {NULL, 0};
    carve(&c, numbers, sizeof(float));
    carve_scratch(p, &n, &c);
    /* calloc: pages are taken from the system as they are first written. */
    p->arena_room = calloc(c.at + 64, 1);
    if (!p->arena_room) return LLAMA_MEMORY;
    p->arena = (float *)(((uintptr_t)p->arena_room + 63) / 64 * 64);
    p->arena_bytes = c.at;
    c = (carver){(uint8_t *)p->arena, 0};
    carve(&c, numbers, sizeof(float));
    carve_scratch(p, &n, &c);
    for (int32_t i = 0; i < p->num_instructions; i++) {
        value *v = p->values + p->instructions[i].op.output;
        v->data = p->arena + v->offset;
    }
    return LLAMA_OK;
}
