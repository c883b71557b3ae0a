/* Attention of a step: the rows' keys and values are written, then every query walks its past. */
#include "pool.h"
#include "program.h"

typedef struct attending {
    llama_program *p;
    const llama_op *op;
    const kv_layer *kv;
    const value *q, *k, *v, *out;
    int32_t rows_a_task;
} attending;

static const int32_t *table_of(const attending *w, int32_t sequence) {
    const llama_batch *b = w->p->batch;
    return b->blocks + b->block_starts[w->op->group * b->num_sequences + sequence];
}

static void write_task(void *context, int32_t task, int32_t thread) {
    const attending *w = context;
    const llama_batch *b = w->p->batch;
    const int32_t from = task * w->rows_a_task, D = w->kv->head_dim;
    (void)thread;
    for (int32_t r = from; r < from + w->rows_a_task && r < b->num_tokens; r++) {
        const int32_t position = b->positions[r], size = w->kv->block_size;
        const int32_t block = table_of(w, w->p->s.sequence[r])[position / size];
        for (int32_t h = 0; h < w->kv->kv_heads; h++)
            w->p->k->remember(w->kv, block, position % size, h,
                              w->k->data + (size_t)r * w->k->stride + (size_t)(h * D),
                              w->v->data + (size_t)r * w->v->stride + (size_t)(h * D));
    }
}

/* Queries of a sequence, for one key head, are numbered row by row and head by head in it. */
static void read_task(void *context, int32_t task, int32_t thread) {
    const attending *w = context;
    const llama_batch *b = w->p->batch;
    const llama_op *op = w->op;
    const int32_t shared = op->heads / op->kv_heads, D = op->head_dim;
    const int32_t head = task % op->kv_heads;
    int32_t tile = task / op->kv_heads, s = 0;
    (void)thread;
    while (w->p->s.tiles[s + 1] <= tile) s++;
    tile -= w->p->s.tiles[s];
    const int32_t queries = (b->starts[s + 1] - b->starts[s]) * shared;
    attend_args a = {.kv = w->kv, .table = table_of(w, s), .head = head, .scale = op->scale,
                     .softcap = op->softcap};
    for (int32_t n = tile * QUERIES; n < queries && a.count < QUERIES; n++) {
        const int32_t row = b->starts[s] + n / shared, position = b->positions[row];
        const size_t at = (size_t)((head * shared + n % shared) * D);
        a.q[a.count] = w->q->data + (size_t)row * w->q->stride + at;
        a.out[a.count] = w->out->data + (size_t)row * w->out->stride + at;
        a.last[a.count] = position;
        a.first[a.count++] = op->window && position >= op->window ? position - op->window + 1 : 0;
    }
    w->p->k->attend(&a);
}

void run_attention(llama_program *p, const llama_op *op) {
    const llama_batch *b = p->batch;
    attending w = {p, op, p->groups[op->group].memory + op->slot, p->values + op->inputs[0],
                   p->values + op->inputs[1], p->values + op->inputs[2], p->values + op->output, 4};
    const size_t width = (size_t)op->kv_heads * (size_t)op->head_dim;
    pool_run(p->pool, write_task, &w, (b->num_tokens + 3) / 4, 8 * (size_t)b->num_tokens * width);
    const int32_t shared = op->heads / op->kv_heads;
    size_t seen = 0; /* of positions, by all queries of one key head: at most */
    p->s.tiles[0] = 0;
    for (int32_t s = 0; s < b->num_sequences; s++) {
        int32_t queries = (b->starts[s + 1] - b->starts[s]) * shared;
        p->s.tiles[s + 1] = p->s.tiles[s] + (queries + QUERIES - 1) / QUERIES;
        if (queries) seen += (size_t)queries * (size_t)(b->positions[b->starts[s + 1] - 1] + 1);
    }
    pool_run(p->pool, read_task, &w, p->s.tiles[b->num_sequences] * op->kv_heads, 2 * seen * width);
}
