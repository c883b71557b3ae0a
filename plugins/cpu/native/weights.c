/* What a program computes with: its matrices, handed over whole, in parts or packed, and its tables
 * of angles. */
#include "program.h"

#include <stdlib.h>
#include <string.h>

int32_t llama_packing(void) { return PACKING; }

int32_t llama_program_weight(llama_program *p, const llama_weight_source *source, int32_t *id) {
    return llama_program_weight_part(p, source, 0, source ? source->rows : 0, id);
}

static int32_t fill_part(llama_program *p, const llama_weight_source *source, int32_t row,
                         int32_t rows, int32_t *id) {
    const char *why = NULL;
    const int is_new = row == 0;
    matrix *m = p->weights + (is_new ? p->num_weights : *id);
    int32_t status = is_new ? matrix_begin(source, rows, m, &why) : LLAMA_OK;
    if (!is_new && (m->filled != row || m->rows != rows)) why = "a part of a matrix is out of order";
    if (why && !status) status = LLAMA_ARGUMENT;
    if (!status) {
        status = matrix_fill(p->pool, source, m, &why);
        if (status && is_new) matrix_free(m);
    }
    if (!status && is_new) *id = p->num_weights++;
    return why ? program_fail(p, status, "%s", why) : status;
}

int32_t llama_program_weight_part(llama_program *p, const llama_weight_source *source, int32_t row,
                                  int32_t rows, int32_t *id) {
    if (!p || !source || !id || p->finished || row < 0) return LLAMA_ARGUMENT;
    if (row > 0 && (*id < 0 || *id >= p->num_weights)) return LLAMA_ARGUMENT;
    const int32_t status = program_enter(p);
    if (status) return status;
    const int has_room = program_grow(&p->weights, p->num_weights, sizeof *p->weights);
    return program_leave(p, has_room ? fill_part(p, source, row, rows, id) : LLAMA_MEMORY);
}

int32_t llama_program_packed(const llama_program *p, int32_t weight, llama_packed *out) {
    if (!p || !out || weight < 0 || weight >= p->num_weights) return LLAMA_ARGUMENT;
    matrix_show(p->weights + weight, out);
    return LLAMA_OK;
}

int32_t llama_program_adopt(llama_program *p, const llama_packed *packed, int32_t *id) {
    if (!p || !packed || !id || p->finished) return LLAMA_ARGUMENT;
    if (!program_grow(&p->weights, p->num_weights, sizeof *p->weights)) return LLAMA_MEMORY;
    const char *why = NULL;
    int32_t status = matrix_adopt(packed, p->weights + p->num_weights, &why);
    if (!status) *id = p->num_weights++;
    return why ? program_fail(p, status, "%s", why) : status;
}

int32_t llama_program_rewrite(llama_program *p, int32_t weight, const float *data) {
    if (!p || !data || weight < 0 || weight >= p->num_weights) return LLAMA_ARGUMENT;
    int32_t status = program_enter(p);
    if (status) return status;
    if (p->weights[weight].kind != M_F32)
        return program_leave(p, program_fail(p, LLAMA_ARGUMENT, "matrix %d is not of 32-bit floats", weight));
    matrix *old = p->weights + weight, new;
    llama_weight_source source = {
        .kind = LLAMA_W_F32, .rows = old->rows, .cols = old->cols, .data = data};
    const char *why = NULL;
    status = matrix_pack(p->pool, &source, &new, &why);
    if (!status) {
        matrix_free(old);
        *old = new;
    }
    if (why) program_fail(p, status, "%s", why);
    return program_leave(p, status);
}

int32_t llama_program_rope(llama_program *p, int32_t table, int32_t half, int32_t count,
                           const float *cosines, const float *sines) {
    if (!p || !cosines || !sines || table < 0 || half < 1 || count < 1) return LLAMA_ARGUMENT;
    const int32_t status = program_enter(p);
    if (status) return status;
    const size_t more = (size_t)count * (size_t)half;
    if (has_nan(cosines, more) || has_nan(sines, more))
        return program_leave(p, program_fail(p, LLAMA_NAN, "a number of rope table %d is not a number (NaN)", table));
    if (table > p->num_ropes || (table == p->num_ropes && p->finished))
        return program_leave(p, program_fail(p, LLAMA_ARGUMENT, "there is no rope table %d", table));
    if (table == p->num_ropes) {
        if (!program_grow(&p->ropes, p->num_ropes, sizeof *p->ropes)) return program_leave(p, LLAMA_MEMORY);
        p->ropes[p->num_ropes++] = (rope_table){.half = half};
    }
    rope_table *t = p->ropes + table;
    if (t->half != half || count > INT32_MAX - t->count)
        return program_leave(p, program_fail(p, LLAMA_ARGUMENT, "rope table %d has width %d", table,
                                             t->half));
    const size_t old = (size_t)t->count * (size_t)half;
    float *c = realloc(t->cosines, (old + more) * sizeof *c);
    if (c) t->cosines = c;
    float *s = c ? realloc(t->sines, (old + more) * sizeof *s) : NULL;
    if (!s) return program_leave(p, LLAMA_MEMORY);
    t->sines = s;
    memcpy(c + old, cosines, more * sizeof *c);
    memcpy(s + old, sines, more * sizeof *s);
    t->count += count;
    return program_leave(p, LLAMA_OK);
}
