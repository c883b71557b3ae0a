/* Program files: the calls that build a program, one record after another, as
 * `python -m llama_plugin_cpu.export` writes them.
 *
 * Every record goes through the calls that anybody makes, so what they refuse is refused here. What
 * they cannot see, whether an array is as long as they will read, is seen to here: a file may hold
 * anything. Numbers are those of the machine that wrote them; another byte order is another ABI.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

enum record { R_GROUP = 1, R_VALUE, R_WEIGHT, R_ROPE, R_OP, R_FINISH };

typedef struct reader {
    FILE *file;
    int64_t left; /* bytes of the file */
    int32_t status;
} reader;

static int read_bytes(reader *r, void *to, size_t size) {
    if (!r->status && ((int64_t)size > r->left || fread(to, 1, size, r->file) != size)) r->status = LLAMA_FILE;
    r->left -= (int64_t)size;
    return !r->status;
}

/* No longer than what is left of the file, whatever the file says. */
static void *read_array(reader *r, int64_t count, size_t size) {
    if (!r->status && (count < 0 || count > r->left / (int64_t)size)) r->status = LLAMA_FILE;
    if (r->status) return NULL;
    void *to = malloc(count ? (size_t)count * size : 1);
    if (!to) r->status = LLAMA_MEMORY;
    if (to && read_bytes(r, to, (size_t)count * size)) return to;
    free(to);
    return NULL;
}

/* Codes of up to four bits stand two in a byte, the first in the low half. */
static uint8_t *read_codes(reader *r, int64_t count, int32_t bits) {
    if (bits > 4) return read_array(r, count, 1);
    uint8_t *pairs = read_array(r, count / 2 + count % 2, 1);
    uint8_t *codes = pairs ? malloc((size_t)count) : NULL;
    if (pairs && !codes) r->status = LLAMA_MEMORY;
    for (int64_t i = 0; codes && i < count; i++) codes[i] = i % 2 ? pairs[i / 2] >> 4 : pairs[i / 2] & 15;
    free(pairs);
    return codes;
}

static int32_t load_weight(reader *r, llama_program *p) {
    int32_t n[7]; /* kind, rows, cols, bits, group, zero, whether there are minimums */
    if (!read_bytes(r, n, sizeof n)) return r->status;
    if (n[1] < 1 || n[2] < 1 || (n[0] >= LLAMA_W_AFFINE && n[4] < 1)) return LLAMA_FILE;
    const int64_t numbers = (int64_t)n[1] * n[2];
    llama_weight_source s = {n[0], n[1], n[2], n[3], n[4], n[5], NULL, NULL, NULL, NULL};
    if (s.kind < LLAMA_W_AFFINE) {
        s.data = read_array(r, numbers, s.kind == LLAMA_W_F32 ? 4 : 2);
    } else {
        const int64_t scales = s.rows * (s.group >= s.cols ? 1 : ((int64_t)s.cols + s.group - 1) / s.group);
        s.data = read_codes(r, numbers, s.bits);
        s.scales = read_array(r, scales, sizeof(float));
        if (n[6]) s.minimums = read_array(r, scales, sizeof(float));
        if (s.kind == LLAMA_W_TABLE) s.table = read_array(r, 16, sizeof(float));
    }
    int32_t id;
    const int32_t status = r->status ? r->status : llama_program_weight(p, &s, &id);
    free((void *)s.data);
    free((void *)s.scales);
    free((void *)s.minimums);
    free((void *)s.table);
    return status;
}

static int32_t load_rope(reader *r, llama_program *p) {
    int32_t n[3]; /* table, half, count */
    if (!read_bytes(r, n, sizeof n)) return r->status;
    if (n[1] < 1 || n[2] < 1) return LLAMA_FILE;
    float *cosines = read_array(r, (int64_t)n[1] * n[2], sizeof *cosines);
    float *sines = read_array(r, (int64_t)n[1] * n[2], sizeof *sines);
    const int32_t status = r->status ? r->status : llama_program_rope(p, n[0], n[1], n[2], cosines, sines);
    free(cosines);
    free(sines);
    return status;
}

/* Whether the arrays of an operation are as long as `llama_program_add` will read them. */
static int long_enough(const llama_program *p, const llama_op *op, const int32_t *lengths) {
    const int32_t m = op->num_weights ? op->weights[0] : -1;
    int32_t width = op->vector_size, cols = 0;
    if (op->kind == LLAMA_LINEAR) {
        width = op->output >= 0 && op->output < p->num_values ? p->values[op->output].width : 0;
        cols = m >= 0 && m < p->num_weights ? p->weights[m].cols : 0;
    }
    return (!op->vector || lengths[0] >= width) && (!op->bias || lengths[1] >= width) &&
           (!op->order || lengths[2] >= cols);
}

static int32_t load_op(reader *r, llama_program *p) {
    llama_op op = {0};
    int32_t n[3]; /* lengths of vector, bias and order, 0 for none */
    const size_t first = offsetof(llama_op, weights), at = offsetof(llama_op, vector_size);
    const size_t last = offsetof(llama_op, normalize) + sizeof op.normalize;
    _Static_assert(offsetof(llama_op, num_weights) == 20, "numbers of 4 bytes stand without gaps");
    read_bytes(r, &op, 24 < first ? 24 : first);
    read_bytes(r, (char *)&op + at, last - at);
    if (!read_bytes(r, n, sizeof n)) return r->status;
    op.weights = read_array(r, op.num_weights, sizeof(int32_t));
    if (n[0]) op.vector = read_array(r, n[0], sizeof(float));
    if (n[1]) op.bias = read_array(r, n[1], sizeof(float));
    if (n[2]) op.order = read_array(r, n[2], sizeof(int32_t));
    int32_t status = r->status;
    if (!status && !long_enough(p, &op, n)) status = LLAMA_FILE;
    if (!status) status = llama_program_add(p, &op);
    free((void *)op.weights);
    free((void *)op.vector);
    free((void *)op.bias);
    free((void *)op.order);
    return status;
}

static int32_t load_record(reader *r, llama_program *p) {
    int32_t kind, n[3], id;
    if (!read_bytes(r, &kind, sizeof kind)) return r->status;
    switch (kind) {
    case R_GROUP: return read_bytes(r, n, 12) ? llama_program_group(p, n[0], n[1], n[2]) : r->status;
    case R_VALUE: return read_bytes(r, n, 8) ? llama_program_value(p, n[0], n[1], &id) : r->status;
    case R_WEIGHT: return load_weight(r, p);
    case R_ROPE: return load_rope(r, p);
    case R_OP: return load_op(r, p);
    case R_FINISH:
        if (!read_bytes(r, n, 8) || r->left) return LLAMA_FILE;
        return llama_program_finish(p, n[0], n[1]);
    default: return LLAMA_FILE;
    }
}

/* The file from its start: what it is, for whom it was written, and the sizes of its model. */
static int32_t load_sizes(reader *r, llama_limits *limits) {
    char name[8];
    int32_t n[4]; /* ABI, vocabulary, hidden size, context */
    if (fseeko(r->file, 0, SEEK_END) || (r->left = (int64_t)ftello(r->file)) < 0 || fseeko(r->file, 0, SEEK_SET))
        return LLAMA_FILE;
    if (!read_bytes(r, name, sizeof name) || !read_bytes(r, n, sizeof n)) return LLAMA_FILE;
    if (memcmp(name, "llamacpu", sizeof name) || n[0] != llama_abi()) return LLAMA_FILE;
    limits->vocab_size = n[1], limits->hidden_size = n[2], limits->context_length = n[3];
    return LLAMA_OK;
}

int32_t llama_program_load(llama_pool *pool, const char *path, llama_limits *limits, llama_program **out) {
    if (!pool || !path || !limits || !out) return LLAMA_ARGUMENT;
    reader r = {.file = fopen(path, "rb")};
    llama_program *p = NULL;
    *out = NULL;
    if (!r.file) return LLAMA_FILE;
    int32_t status = load_sizes(&r, limits);
    if (!status) status = llama_program_new(pool, limits, &p);
    while (!status && !p->finished) status = load_record(&r, p);
    fclose(r.file);
    if (status && p && !p->message[0]) program_fail(p, status, "%s", llama_status_text(status));
    *out = p;
    return status;
}

int32_t llama_program_groups(const llama_program *p) { return p ? p->num_groups : 0; }
