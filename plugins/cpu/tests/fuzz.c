/* Steps random programs and compares them with plain loops, for a build under sanitizers: random
 * shapes, tails, encodings, activations, memories and tables; arrays are as long as they must be and
 * begin anywhere. In the end each program gets batches with one number spoiled, to be refused.
 *
 *   fuzz CASES SEED     a case is one step; the exit status counts the faults
 *
 * Inputs are such that rounding to 8 bits loses nothing, so that plain loops know the answer.
 */
#include "fuzz.h"

llama_program *p;
static int faults;
static long cases;
static uint64_t dice;

int32_t below(int32_t n) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((dice >> 33) % (uint64_t)n);
}

void broken(const char *what) {
    printf("case %ld: %s: %s\n", cases, what, llama_program_message(p));
    if (++faults > 20) exit(99);
}

void *room(size_t count, size_t size) {
    void *found = malloc(count * size + !count);
    if (!found) exit(98);
    return found;
}

void fill(float *x, int32_t n, int32_t block, int32_t most) {
    for (int32_t i = 0; i < n; i++)
        x[i] = (float)(i % block ? below(2 * most + 1) - most : below(2) ? most : -most) / 64;
}

float anything(void) { return (float)(below(20001) - 10000) / 5000; }

void compare(const char *what, float found, double expected, double size) {
    if (!(fabs(found - expected) <= 4e-6 * size + 1e-30)) {
        char text[160];
        snprintf(text, sizeof text, "%s gave %.9g, not %.9g of %.3g", what, found, expected, size);
        broken(text);
    }
}

/* ---- what was met: one count for each name and tier -------------------------------------------------- */

enum { MOST_NAMES = 900 };
static struct meeting {
    char name[64];
    long count;
} meetings[MOST_NAMES];

void met(const char *name) {
    char full[64];
    int i = 0;
    snprintf(full, sizeof full, "%s: %s", llama_tier(), name);
    while (meetings[i].count && strcmp(meetings[i].name, full)) i++;
    if (i == MOST_NAMES - 1) exit(96);
    memcpy(meetings[i].name, full, sizeof full);
    meetings[i].count++;
}

/* ---- a program around one operation --------------------------------------------------------------- */

int32_t value(int32_t width, int32_t gathered) {
    int32_t id = -1;
    CHECK(llama_program_value(p, width, gathered, &id));
    return id;
}

llama_limits begin(llama_pool *pool, int32_t hidden, int32_t vocab, int32_t kv_type, int32_t block,
                   const llama_weight_source *table) {
    const llama_limits limits = {vocab, hidden, 64, 24, 3, block, 3 * (64 / block + 1), kv_type};
    CHECK(llama_program_new(pool, &limits, &p));
    float *zeros = calloc((size_t)vocab * (size_t)hidden, sizeof *zeros);
    const llama_weight_source source = {.kind = LLAMA_W_F32, .rows = vocab, .cols = hidden, .data = zeros};
    int32_t weight;
    CHECK(llama_program_weight(p, table ? table : &source, &weight));
    free(zeros);
    const llama_op embed = {.kind = LLAMA_EMBED, .output = value(hidden, 0), .inputs = {-1, -1, -1},
                            .num_weights = 1, .weights = &weight};
    CHECK(llama_program_add(p, &embed));
    return limits;
}

void finish(int32_t of, int32_t width) {
    const llama_op gather = {.kind = LLAMA_GATHER, .output = value(width, 1), .inputs = {of, -1, -1}};
    CHECK(llama_program_add(p, &gather));
    CHECK(llama_program_finish(p, gather.output, -1));
    met("gather");
}

work make(const llama_limits *l, const int32_t *lengths, int32_t S, const int32_t *from, const int32_t *table) {
    const int32_t per = table ? l->num_blocks / 3 : 0, offset = below(16);
    work w = {0};
    int32_t T = 0;
    w.adapters = room((size_t)S, 4);
    for (int32_t s = 0; s < S; s++) w.adapters[s] = -1;
    w.starts = room((size_t)S + 1, 4);
    for (int32_t s = 0; s < S; s++) w.starts[s] = T, T += lengths[s];
    w.starts[S] = T;
    w.tokens = room((size_t)T, 4), w.positions = room((size_t)T, 4), w.want = room((size_t)T, 1);
    w.blocks = room((size_t)(per * S), 4), w.block_starts = room((size_t)S + 1, 4);
    w.raw = room((size_t)(T * l->hidden_size + offset), 4);
    w.x = w.raw + offset;
    w.logits = room((size_t)(T * l->vocab_size), 4);
    for (int32_t s = 0; s <= S; s++) w.block_starts[s] = s * per;
    for (int32_t i = 0; i < per * S; i++) w.blocks[i] = table[i];
    for (int32_t s = 0; s < S; s++)
        for (int32_t r = w.starts[s]; r < w.starts[s + 1]; r++)
            w.tokens[r] = -1, w.positions[r] = from[s] + r - w.starts[s], w.want[r] = LLAMA_LOGITS;
    w.batch = (llama_batch){T, S, per * S, w.tokens, w.positions, w.starts, w.blocks, w.block_starts,
                            w.want, w.adapters, w.x, NULL};
    return w;
}

void drop(work *w) {
    void *each[] = {w->tokens, w->positions, w->starts, w->blocks, w->block_starts, w->adapters, w->want, w->raw, w->logits};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) free(each[i]);
}

int32_t step(const work *w) {
    cases++;
    return llama_program_step(p, &w->batch, &(llama_results){.logits = w->logits});
}

void spoil(const llama_limits *l, const int32_t *table, int32_t slots) {
    const int32_t lengths[] = {1 + below(4), below(4)}, from[] = {below(40), below(40)};
    const int32_t odd[] = {-1, 1 << 30, -(1 << 30), 70, 1000};
    work w = make(l, lengths, 2, from, table);
    fill(w.x, w.batch.num_tokens * l->hidden_size, 1, 127);
    const int32_t T = w.batch.num_tokens, row = below(T), bad = odd[below(5)];
    int32_t sure = 1;
    switch (below(table ? 10 : 7)) {
    case 0: w.tokens[row] = below(2) ? l->vocab_size : -2 - below(9); break;
    case 1: w.positions[row] = below(2) ? -1 : l->context_length; break;
    case 2: w.want[row] = (uint8_t)(4 + below(252)); break;
    case 3: w.batch.num_tokens = below(2) ? -1 : l->max_tokens + 1; break;
    case 4: w.batch.num_sequences = below(2) ? -1 : l->max_sequences + 1; break;
    case 5: w.starts[below(3)] = bad; break;
    case 6: w.adapters[below(2)] = below(2) ? -2 - below(9) : slots + below(9); break;
    case 7: w.blocks[(from[0] + below(lengths[0])) / l->block_size] = below(2) ? -1 : l->num_blocks; break;
    case 8: w.block_starts[below(3)] = bad, sure = bad < 0 || bad > 100; break;
    default: w.positions[row] = below(l->context_length), sure = 0; break;
    }
    const int32_t status = step(&w);
    if (sure && !status) broken("a spoiled batch was stepped");
    drop(&w);
}

static void (*const tries[])(llama_pool *) = {try_linear, try_linear, try_linear, try_rows, try_attention,
                                              try_attention, try_embed, try_moe, try_lora, try_rope};

int main(int argc, char **argv) {
    const long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : 2000;
    const char *tiers[8];
    int32_t num_tiers = 0;
    llama_pool *pools[2];
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* who ends it early still hears of faults */
    dice = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (int32_t i = 0; llama_tier_name(i); i++)
        if (llama_tier_runs(llama_tier_name(i))) tiers[num_tiers++] = llama_tier_name(i);
    if (llama_pool_new(1, pools) || llama_pool_new(2, pools + 1)) return 97;
    while (cases < wanted) {
        const char *tier = tiers[below(num_tiers)];
        const long before = faults;
        CHECK(llama_tier_use(tier));
        llama_pool *pool = pools[!below(10)];
        tries[below((int32_t)(sizeof tries / sizeof *tries))](pool);
        llama_program_free(p);
        p = NULL;
        if (faults > before) printf("  on the tier %s\n", tier);
    }
    llama_pool_free(pools[0]);
    llama_pool_free(pools[1]);
    for (int i = 0; meetings[i].count; i++) printf("%s: %ld\n", meetings[i].name, meetings[i].count);
    printf("%ld cases on %d tiers, %d faults\n", cases, num_tiers, faults);
    return faults > 99 ? 99 : faults;
}
