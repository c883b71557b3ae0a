/* Checks of a batch: nothing outside the program's memory is read or written because of one. */
#include "program.h"

static int32_t check_rows(llama_program *p, const llama_batch *b) {
    const llama_limits *l = &p->limits;
    int32_t context = l->context_length;
    for (int32_t i = 0; i < p->num_ropes; i++)
        context = p->ropes[i].count < context ? p->ropes[i].count : context;
    for (int32_t r = 0; r < b->num_tokens; r++) {
        const int32_t token = b->tokens[r];
        if (token >= l->vocab_size || token < -1 || (token == -1 && !b->embeddings))
            return program_fail(p, LLAMA_TOKEN, "row %d has token %d, and the vocabulary has %d", r,
                                token, l->vocab_size);
        if (b->positions[r] < 0 || b->positions[r] >= context)
            return program_fail(p, LLAMA_POSITION, "row %d has position %d, and the context ends at %d",
                                r, b->positions[r], context);
        if (b->want[r] > LLAMA_TOKEN_ID)
            return program_fail(p, LLAMA_ARGUMENT, "row %d wants %d", r, b->want[r]);
    }
    return LLAMA_OK;
}

/* The block table must have every block from the first position seen to the last one written. */
static int32_t check_table(llama_program *p, const llama_batch *b, int32_t group, int32_t s) {
    const int32_t at = group * b->num_sequences + s, size = p->limits.block_size;
    const int32_t start = b->block_starts[at], count = b->block_starts[at + 1] - start;
    const int32_t window = p->groups[group].window;
    if (b->starts[s] == b->starts[s + 1]) return LLAMA_OK;
    const int32_t low = b->positions[b->starts[s]], high = b->positions[b->starts[s + 1] - 1];
    const int32_t first = window && low >= window ? (low - window + 1) / size : 0;
    if (high / size >= count)
        return program_fail(p, LLAMA_BLOCK, "sequence %d has %d blocks in group %d, and position %d needs %d",
                            s, count, group, high, high / size + 1);
    for (int32_t i = first; i <= high / size; i++) {
        const int32_t id = b->blocks[start + i];
        if (id < 0 || id >= p->limits.num_blocks)
            return program_fail(p, LLAMA_BLOCK, "sequence %d names block %d in group %d, which has %d", s,
                                id, group, p->limits.num_blocks);
    }
    return LLAMA_OK;
}

static int32_t check_sequences(llama_program *p, const llama_batch *b) {
    int32_t before = 0;
    for (int32_t s = 0; s <= b->num_sequences; s++) {
        if (b->starts[s] < before || (!s && b->starts[0]) || b->starts[s] > b->num_tokens)
            return program_fail(p, LLAMA_ARGUMENT, "the rows of sequence %d start at %d", s, b->starts[s]);
        before = b->starts[s];
    }
    if (before != b->num_tokens)
        return program_fail(p, LLAMA_ARGUMENT, "the sequences end at row %d of %d", before, b->num_tokens);
    for (int32_t s = 0; s < b->num_sequences; s++) {
        for (int32_t r = b->starts[s] + 1; r < b->starts[s + 1]; r++)
            if (b->positions[r] != b->positions[r - 1] + 1)
                return program_fail(p, LLAMA_POSITION, "row %d has position %d after position %d", r,
                                    b->positions[r], b->positions[r - 1]);
        if (b->adapters && (b->adapters[s] < -1 || b->adapters[s] >= p->num_slots))
            return program_fail(p, LLAMA_ARGUMENT, "sequence %d names adapter slot %d of %d", s,
                                b->adapters[s], p->num_slots);
    }
    return LLAMA_OK;
}

static int32_t check_tables(llama_program *p, const llama_batch *b) {
    const int32_t count = p->num_groups * b->num_sequences;
    if (!p->num_groups) return LLAMA_OK;
    if (b->block_starts[0] < 0 || b->block_starts[count] > b->num_block_ids)
        return program_fail(p, LLAMA_BLOCK, "the block tables do not lie within the ids given");
    for (int32_t i = 0; i < count; i++)
        if (b->block_starts[i + 1] < b->block_starts[i])
            return program_fail(p, LLAMA_BLOCK, "block table %d ends before it starts", i);
    for (int32_t g = 0; g < p->num_groups; g++)
        for (int32_t s = 0; s < b->num_sequences; s++) {
            int32_t status = check_table(p, b, g, s);
            if (status) return status;
        }
    return LLAMA_OK;
}

/* Whether there is somewhere to put what the rows want, and something to make it from. */
static int32_t check_wants(llama_program *p, const llama_batch *b, const llama_results *out) {
    for (int32_t s = 0; s < b->num_sequences; s++)
        for (int32_t r = b->starts[s]; r < b->starts[s + 1]; r++) {
            const int32_t want = b->want[r];
            if (want == LLAMA_HIDDEN && (!out->hidden || p->hidden < 0))
                return program_fail(p, LLAMA_ARGUMENT, "row %d wants a hidden state, and there is none", r);
            if (want == LLAMA_LOGITS && (!out->logits || p->logits < 0))
                return program_fail(p, LLAMA_ARGUMENT, "row %d wants logits, and there are none", r);
            if (want != LLAMA_TOKEN_ID) continue;
            if (!out->tokens || p->logits < 0 || !b->chains || !chain_makes_sense(b->chains + s))
                return program_fail(p, LLAMA_ARGUMENT, "row %d wants a token, and there is no chain that gives one", r);
        }
    return LLAMA_OK;
}

int32_t check_batch(llama_program *p, const llama_batch *b, const llama_results *out) {
    const llama_limits *l = &p->limits;
    if (b->num_tokens < 0 || b->num_sequences < 0 || b->num_block_ids < 0)
        return program_fail(p, LLAMA_ARGUMENT, "a batch with a negative length");
    if (b->num_tokens > l->max_tokens || b->num_sequences > l->max_sequences)
        return program_fail(p, LLAMA_LIMIT, "%d rows of %d sequences, and the program takes %d of %d",
                            b->num_tokens, b->num_sequences, l->max_tokens, l->max_sequences);
    if (!b->tokens || !b->positions || !b->starts || !b->want || (p->num_groups && (!b->block_starts || !b->blocks)))
        return program_fail(p, LLAMA_ARGUMENT, "a batch without one of its arrays");
    int32_t status = check_rows(p, b);
    if (!status) status = check_sequences(p, b);
    if (!status) status = check_tables(p, b);
    return status ? status : check_wants(p, b, out);
}
