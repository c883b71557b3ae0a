/* Building a program, piece by piece, and taking it apart. Every piece is checked when it is
 * added, so that a step has only its batch left to check. */
#include "program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "tier.h"

int32_t llama_abi(void) { return 2; }

const char *llama_status_text(int32_t status) {
    static const char *const texts[] = {
        "all is well", "not enough memory", "an argument makes no sense",
        "a token id lies outside the vocabulary", "a position is outside the context or out of order",
        "a block does not exist or is missing", "more rows or sequences than the program was made for",
        "another thread is using the program", "the threads stayed behind in the parent process",
        "the tier is unknown or does not run here", "a weight is not a number",
        "LLAMA_CPU_THREADS is no number from 1 to 256", "the file is no program that can be loaded"};
    return status >= 0 && status < (int32_t)(sizeof texts / sizeof *texts) ? texts[status] : "unknown";
}

int32_t program_fail(llama_program *p, int32_t status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->message, sizeof p->message, format, arguments);
    va_end(arguments);
    return status;
}

int32_t program_enter(llama_program *p) {
    /* First, since a fork in the middle of a step copies the flag as it stood. */
    if (pool_is_inherited(p->pool))
        return program_fail(p, LLAMA_FORKED, "%s", llama_status_text(LLAMA_FORKED));
    if (atomic_flag_test_and_set(&p->busy)) return LLAMA_BUSY;
    p->message[0] = 0;
    pool_enter(p->pool);
    return LLAMA_OK;
}

int32_t program_leave(llama_program *p, int32_t status) {
    pool_leave(p->pool);
    if (status && !p->message[0]) program_fail(p, status, "%s", llama_status_text(status));
    atomic_flag_clear(&p->busy);
    return status;
}

int program_grow(void *array, int32_t count, size_t size) {
    if (count & (count - 1)) return 1; /* doubled at every power of two */
    void *old;
    memcpy(&old, array, sizeof old);
    void *more = realloc(old, (size_t)(count ? 2 * count : 1) * size);
    if (more) memcpy(array, &more, sizeof more);
    return more != NULL;
}

static void *copy_of(const void *from, size_t bytes) {
    void *to = from ? malloc(bytes ? bytes : 1) : NULL;
    return to ? memcpy(to, from, bytes) : NULL;
}

int32_t llama_program_new(llama_pool *pool, const llama_limits *l, llama_program **out) {
    if (!pool || !l || !out || l->vocab_size < 1 || l->hidden_size < 1 || l->context_length < 1 ||
        l->max_tokens < 1 || l->max_tokens > MOST_ROWS || l->max_sequences < 1 ||
        l->max_sequences > MOST_ROWS || l->block_size < 1 || l->num_blocks < 1 ||
        l->kv_type < LLAMA_KV_F32 || l->kv_type > LLAMA_KV_Q8)
        return LLAMA_ARGUMENT;
    const kernels *k = llama_kernels();
    if (!k) return LLAMA_TIER;
    llama_program *p = calloc(1, sizeof *p);
    if (!p) return LLAMA_MEMORY;
    p->pool = pool;
    p->k = k;
    p->limits = *l;
    p->logits = p->hidden = -1;
    atomic_flag_clear(&p->busy);
    *out = p;
    return LLAMA_OK;
}

int32_t llama_program_group(llama_program *p, int32_t layers, int32_t kv_heads, int32_t head_dim) {
    if (!p || p->finished) return LLAMA_ARGUMENT;
    if (layers < 1 || kv_heads < 1 || head_dim < 1 || head_dim > MAX_HEAD || kv_heads > INT32_MAX / head_dim)
        return program_fail(p, LLAMA_ARGUMENT, "a group of %d layers with %d heads of %d", layers,
                            kv_heads, head_dim);
    if (!program_grow(&p->groups, p->num_groups, sizeof *p->groups)) return LLAMA_MEMORY;
    p->groups[p->num_groups++] =
        (kv_group){.layers = layers, .kv_heads = kv_heads, .head_dim = head_dim, .window = -1};
    return LLAMA_OK;
}

int32_t llama_program_value(llama_program *p, int32_t width, int32_t gathered, int32_t *id) {
    if (!p || !id || p->finished) return LLAMA_ARGUMENT;
    if (width < 1) return program_fail(p, LLAMA_ARGUMENT, "a value of width %d", width);
    if (!program_grow(&p->values, p->num_values, sizeof *p->values)) return LLAMA_MEMORY;
    *id = p->num_values++;
    p->values[*id] = (value){.width = width, .gathered = gathered != 0, .born = -1, .dies = -1};
    return LLAMA_OK;
}

/* ---- operations --------------------------------------------------------------------------------- */

static int32_t width_of(const llama_program *p, int32_t v) {
    return v >= 0 && v < p->num_values ? p->values[v].width : -1;
}

static const matrix *weight_of(const llama_program *p, const llama_op *op, int32_t i) {
    if (i >= op->num_weights || op->weights[i] < 0 || op->weights[i] >= p->num_weights) return NULL;
    const matrix *m = p->weights + op->weights[i];
    return m->filled == m->rows ? m : NULL; /* of one in parts, all must have come */
}

static int shaped(const matrix *m, int32_t rows, int32_t cols) {
    return m && m->rows == rows && m->cols == cols;
}

static const char *attention_fault(const llama_program *p, const llama_op *op) {
    if (op->group < 0 || op->group >= p->num_groups) return "attention names no group";
    const kv_group *g = p->groups + op->group;
    if (op->slot < 0 || op->slot >= g->layers) return "attention names no layer of its group";
    if (op->kv_heads != g->kv_heads || op->head_dim != g->head_dim)
        return "attention does not fit its group";
    if (op->heads < 1 || op->heads > INT32_MAX / op->head_dim || op->heads % op->kv_heads) return "query heads must share key heads evenly";
    if (op->window < 0 || !(op->scale > 0) || !(op->softcap >= 0)) return "attention's numbers make no sense";
    if (width_of(p, op->inputs[0]) != op->heads * op->head_dim ||
        width_of(p, op->inputs[1]) != op->kv_heads * op->head_dim ||
        width_of(p, op->inputs[2]) != op->kv_heads * op->head_dim ||
        width_of(p, op->output) != op->heads * op->head_dim)
        return "attention's inputs have the wrong widths";
    return NULL;
}

static const char *rope_fault(const llama_program *p, const llama_op *op) {
    int32_t width = width_of(p, op->inputs[0]);
    if (op->head_dim < 1 || width % op->head_dim || op->rotary_dim < 2 ||
        op->rotary_dim > op->head_dim || op->rotary_dim % 2)
        return "rope's heads do not fit";
    if (op->rope < 0 || op->rope >= p->num_ropes) return "rope names no table";
    return p->ropes[op->rope].half * 2 != op->rotary_dim ? "rope's table has another width" : NULL;
}

static const char *moe_fault(const llama_program *p, const llama_op *op) {
    const int32_t width = width_of(p, op->inputs[0]), experts = op->num_weights / 3;
    if (experts < 1 || op->num_weights % 3 || width_of(p, op->inputs[1]) != experts)
        return "moe needs three matrices and one score for each expert";
    if (op->top_k < 1 || op->top_k > experts) return "moe cannot choose so many experts";
    const matrix *first = weight_of(p, op, 0);
    for (int32_t e = 0; e < experts; e++)
        if (!first || !shaped(weight_of(p, op, 3 * e), first->rows, width) ||
            !shaped(weight_of(p, op, 3 * e + 1), first->rows, width) ||
            !shaped(weight_of(p, op, 3 * e + 2), width, first->rows))
            return "moe's matrices do not fit";
    return NULL;
}

static const char *lora_fault(const llama_program *p, const llama_op *op) {
    if (op->num_weights < 2 || op->num_weights % 2) return "lora needs two matrices for each slot";
    for (int32_t i = 0; i < op->num_weights; i += 2) {
        const matrix *a = weight_of(p, op, i), *b = weight_of(p, op, i + 1);
        if (!a || !b || a->kind != M_F32 || b->kind != M_F32 || a->rows != b->cols ||
            a->cols != width_of(p, op->inputs[1]) || b->rows != width_of(p, op->inputs[0]))
            return "lora's matrices do not fit";
    }
    return NULL;
}

static const char *linear_fault(const llama_program *p, const llama_op *op) {
    const matrix *m = weight_of(p, op, 0);
    if (!shaped(m, width_of(p, op->output), width_of(p, op->inputs[0])))
        return "linear's matrix does not fit its input and output";
    if (op->act < LLAMA_ACT_NONE || op->act > LLAMA_ACT_Q7) return "act is unknown";
    if ((op->act == LLAMA_ACT_Q8 || op->act == LLAMA_ACT_Q7) && op->act_block < 1) return "act needs a block above 0";
    if (op->act == LLAMA_ACT_STATIC && !(op->act_scale > 0)) return "act needs a scale above 0";
    for (int32_t k = 0; op->order && k < m->cols; k++)
        if (op->order[k] < 0 || op->order[k] >= m->cols) return "order names a column that is not there";
    return NULL;
}

static const char *number_fault(const llama_op *op) {
    if (op->kind == LLAMA_RMS_NORM && op->offset != op->offset) return "rms_norm's offset is not a number";
    return op->kind == LLAMA_MUL && op->by != op->by ? "mul's factor is not a number" : NULL;
}

/* What each kind reads, and whether its rows stay what they were. */
static const char *op_fault(const llama_program *p, const llama_op *op) {
    const int32_t in = width_of(p, op->inputs[0]), out = width_of(p, op->output);
    if (out < 0) return "an operation writes to no value";
    if (op->kind != LLAMA_EMBED && in < 0) return "an operation reads no value";
    switch (op->kind) {
    case LLAMA_EMBED:
        return shaped(weight_of(p, op, 0), p->limits.vocab_size, out) && out == p->limits.hidden_size
                   ? NULL : "embed's table does not fit the vocabulary and the hidden size";
    case LLAMA_RMS_NORM:
        return op->vector && op->vector_size > 0 && in == out && in % op->vector_size == 0 && op->eps > 0
                   ? NULL : "rms_norm's weight does not fit";
    case LLAMA_LAYER_NORM:
        return op->vector && op->vector_size == in && in == out && op->eps > 0
                   ? NULL : "layer_norm's weight does not fit";
    case LLAMA_LINEAR: return linear_fault(p, op);
    case LLAMA_ROPE: return in == out ? rope_fault(p, op) : "rope's widths differ";
    case LLAMA_ATTENTION: return attention_fault(p, op);
    case LLAMA_ACTIVATION: return in == out && op->fn >= 0 && op->fn <= LLAMA_TANH ? NULL : "activation is unknown";
    case LLAMA_GLU:
        return in == out && width_of(p, op->inputs[1]) == in && op->fn >= 0 && op->fn <= LLAMA_TANH
                   ? NULL : "glu's widths or function make no sense";
    case LLAMA_ADD: return in == out && width_of(p, op->inputs[1]) == in ? NULL : "add's widths differ";
    case LLAMA_MUL:
        return in == out && (op->inputs[1] < 0 || width_of(p, op->inputs[1]) == in) ? NULL : "mul's widths differ";
    case LLAMA_SOFTCAP: return in == out && op->by > 0 ? NULL : "softcap needs a cap above 0";
    case LLAMA_SLICE: return op->start >= 0 && out <= in - op->start ? NULL : "slice lies outside its input";
    case LLAMA_GATHER: return in == out ? NULL : "gather's widths differ";
    case LLAMA_MOE: return in == out ? moe_fault(p, op) : "moe's widths differ";
    case LLAMA_LORA: return in == out ? lora_fault(p, op) : "lora's widths differ";
    default: return "the operation is unknown";
    }
}

static const char *rows_fault(const llama_program *p, const llama_op *op) {
    const int gathered = p->values[op->output].gathered;
    const int whole = op->kind == LLAMA_EMBED || op->kind == LLAMA_ATTENTION || op->kind == LLAMA_ROPE;
    if ((whole && gathered) || (op->kind == LLAMA_GATHER && !gathered))
        return "an operation gives other rows than its value has";
    for (int i = 0; i < 3; i++) {
        int32_t v = op->inputs[i];
        if (v < 0 || op->kind == LLAMA_EMBED) continue;
        if (v >= p->num_values || v == op->output) return "an operation reads no value, or its own";
        if (p->values[v].born < 0) return "an operation reads what nothing before it gives";
        if (op->kind == LLAMA_GATHER ? p->values[v].gathered : p->values[v].gathered != gathered)
            return "an operation mixes all rows with those that give something";
    }
    return p->values[op->output].born >= 0 ? "a value is written twice" : NULL;
}

/* Copy what the pointers of an operation show. */
static int keep(llama_program *p, instruction *i) {
    llama_op *op = &i->op;
    const llama_op given = *op;
    const int32_t cols = op->kind == LLAMA_LINEAR ? p->weights[op->weights[0]].cols : 0;
    const int is_norm = op->kind == LLAMA_RMS_NORM || op->kind == LLAMA_LAYER_NORM;
    const int32_t width = is_norm ? op->vector_size : p->values[op->output].width;
    op->weights = copy_of(given.weights, (size_t)op->num_weights * sizeof *op->weights);
    op->vector = is_norm || op->kind == LLAMA_LINEAR
                     ? copy_of(given.vector, (size_t)width * sizeof(float)) : NULL;
    op->bias = op->kind == LLAMA_LAYER_NORM ? copy_of(given.bias, (size_t)width * sizeof(float)) : NULL;
    op->order = op->kind == LLAMA_LINEAR ? copy_of(given.order, (size_t)cols * sizeof(int32_t)) : NULL;
    return (!op->num_weights || op->weights) && (!given.order || !cols || op->order) &&
           (op->vector || !given.vector || !(is_norm || op->kind == LLAMA_LINEAR)) &&
           (op->bias || !given.bias || op->kind != LLAMA_LAYER_NORM);
}

static void forget(instruction *i) {
    free((void *)i->op.weights);
    free((void *)i->op.vector);
    free((void *)i->op.bias);
    free((void *)i->op.order);
}

static void settle(llama_program *p, instruction *i) {
    const llama_op *op = &i->op;
    if (op->kind == LLAMA_LINEAR)
        i->how = prepare_for(p->weights + op->weights[0], op->act, op->act_block, op->act_scale, op->order);
    if (op->kind == LLAMA_MOE) {
        i->how = prepare_for(p->weights + op->weights[0], op->act, op->act_block, op->act_scale, NULL);
        i->then = prepare_for(p->weights + op->weights[2], op->act, op->act_block, op->act_scale, NULL);
    }
    if (op->kind == LLAMA_ATTENTION) {
        kv_group *g = p->groups + op->group;
        if (g->window < 0 || !op->window) g->window = op->window;
        if (g->window && op->window > g->window) g->window = op->window;
    }
    if (op->kind == LLAMA_LORA) {
        int32_t slots = op->num_weights / 2;
        p->num_slots = p->num_slots && p->num_slots < slots ? p->num_slots : slots;
    }
}

/* Experts of one operation are prepared together, so they must be packed alike. */
static const char *alike_fault(const llama_program *p, const instruction *i) {
    if (i->op.kind != LLAMA_MOE) return NULL;
    for (int32_t e = 0; e < i->op.num_weights; e++) {
        const matrix *m = p->weights + i->op.weights[e], *as = p->weights + i->op.weights[e % 3 == 2 ? 2 : 0];
        if (m->kind != as->kind || m->group != as->group) return "moe's matrices are not encoded alike";
    }
    return NULL;
}

int32_t llama_program_add(llama_program *p, const llama_op *op) {
    if (!p || !op || p->finished || op->num_weights < 0 || (op->num_weights && !op->weights))
        return LLAMA_ARGUMENT;
    const char *why = op_fault(p, op);
    if (!why) why = number_fault(op);
    if (!why) why = rows_fault(p, op);
    if (why) return program_fail(p, LLAMA_ARGUMENT, "%s", why);
    if (!program_grow(&p->instructions, p->num_instructions, sizeof *p->instructions)) return LLAMA_MEMORY;
    instruction *i = p->instructions + p->num_instructions;
    *i = (instruction){.op = *op, .span = 1};
    if (!keep(p, i)) {
        forget(i);
        return LLAMA_MEMORY;
    }
    why = alike_fault(p, i);
    if (why) {
        forget(i);
        return program_fail(p, LLAMA_ARGUMENT, "%s", why);
    }
    const int32_t width = i->op.kind == LLAMA_LINEAR ? p->values[op->output].width : i->op.vector_size;
    if (has_nan(i->op.vector, (size_t)width) || has_nan(i->op.bias, (size_t)width)) {
        forget(i);
        return program_fail(p, LLAMA_NAN, "a number of its weight or bias is not a number (NaN)");
    }
    settle(p, i);
    p->values[op->output].born = p->num_instructions++;
    return LLAMA_OK;
}

static int gives(const llama_program *p, int32_t v, int32_t width) {
    return v < 0 || (v < p->num_values && p->values[v].width == width && p->values[v].gathered &&
                     p->values[v].born >= 0);
}

int32_t llama_program_finish(llama_program *p, int32_t logits, int32_t hidden) {
    if (!p || p->finished) return LLAMA_ARGUMENT;
    if (!gives(p, logits, p->limits.vocab_size) || !gives(p, hidden, p->limits.hidden_size))
        return program_fail(p, LLAMA_ARGUMENT, "logits or hidden names no gathered value of its width");
    p->logits = logits;
    p->hidden = hidden;
    int32_t status = kv_allocate(p);
    if (!status) status = plan_program(p);
    p->finished = !status;
    if (status) kv_free(p);
    if (status && !p->message[0]) program_fail(p, status, "%s", llama_status_text(status));
    return status;
}

const char *llama_program_message(const llama_program *p) { return p ? p->message : ""; }

int64_t llama_program_bytes(const llama_program *p, int32_t what) {
    if (!p) return 0;
    int64_t total = 0;
    for (int32_t i = 0; what == 0 && i < p->num_weights; i++) total += matrix_bytes(p->weights + i);
    return what == 1 ? (int64_t)p->kv_bytes : what == 2 ? (int64_t)p->arena_bytes : total;
}

void llama_program_free(llama_program *p) {
    if (!p) return;
    for (int32_t i = 0; i < p->num_instructions; i++) forget(p->instructions + i);
    for (int32_t i = 0; i < p->num_weights; i++) matrix_free(p->weights + i);
    for (int32_t i = 0; i < p->num_ropes; i++) {
        free(p->ropes[i].cosines);
        free(p->ropes[i].sines);
    }
    kv_free(p);
    free(p->instructions);
    free(p->weights);
    free(p->ropes);
    free(p->groups);
    free(p->values);
    free(p->arena_room);
    free(p);
}
