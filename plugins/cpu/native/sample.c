/* Sampling from one row of logits: the standard links, by the arithmetic of the core's own.
 *
 * A link drops tokens from the list of those left, which stays in the order of ids; the draw adds
 * up in double precision in that order, so what was dropped early or late makes no difference.
 *
 * Legend: V vocabulary, n tokens left.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct left {
    int32_t n;
    int32_t *ids;
    float *logits;
} left;

/* The random number in [0, 1) of an output token: Philox4x32-10 of (index, 0, 0, 0) by the seed. */
static double uniform(uint64_t seed, uint32_t index) {
    uint32_t c[4] = {index, 0, 0, 0}, k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t m = (uint64_t)c[0] * 0xD2511F53u, n = (uint64_t)c[2] * 0xCD9E8D57u;
        const uint32_t next[4] = {(uint32_t)(n >> 32) ^ c[1] ^ k[0], (uint32_t)n,
                                  (uint32_t)(m >> 32) ^ c[3] ^ k[1], (uint32_t)m};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return ((double)(c[0] >> 5) * 67108864.0 + (double)(c[1] >> 6)) / 9007199254740992.0;
}

/* Bits that order as the numbers do; both zeros are one. */
static uint32_t rank_of(float x) {
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, 4);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

static float greatest(const left *l) {
    float most = l->logits[0];
    for (int32_t i = 1; i < l->n; i++) most = l->logits[i] > most ? l->logits[i] : most;
    return most;
}

static void keep_from(left *l, float least) {
    int32_t n = 0;
    for (int32_t i = 0; i < l->n; i++)
        if (l->logits[i] >= least) l->ids[n] = l->ids[i], l->logits[n++] = l->logits[i];
    l->n = n;
}

/* Drop what is surely below the k-th greatest, in one pass over ranks cut to 11 bits. */
static void keep_about(left *l, int32_t k) {
    int32_t counts[2048] = {0}, bin = 2047;
    for (int32_t i = 0; i < l->n; i++) counts[rank_of(l->logits[i]) >> 21]++;
    while (counts[bin] < k) k -= counts[bin--];
    int32_t n = 0;
    for (int32_t i = 0; i < l->n; i++)
        if (rank_of(l->logits[i]) >> 21 >= (uint32_t)bin) l->ids[n] = l->ids[i], l->logits[n++] = l->logits[i];
    l->n = n;
}

/* The k-th greatest, eight bits of its rank at a time. */
static float kth(const float *x, int32_t n, int32_t k) {
    uint32_t known = 0, mask = 0, bits;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int32_t counts[256] = {0}, digit = 255;
        for (int32_t i = 0; i < n; i++) {
            uint32_t rank = rank_of(x[i]);
            if ((rank & mask) == known) counts[rank >> shift & 255]++;
        }
        while (counts[digit] < k) k -= counts[digit--];
        known |= (uint32_t)digit << shift;
        mask |= 255u << shift;
    }
    bits = known & 0x80000000u ? known & 0x7fffffffu : ~known;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

#define MOST_BLOCKS 2048
enum { LANES = 16 };

static float greatest_of_block(const float *x, int32_t n) {
    float top[LANES];
    for (int j = 0; j < LANES; j++) top[j] = x[0];
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    for (; i < n; i++) top[0] = x[i] > top[0] ? x[i] : top[0];
    for (int j = 1; j < LANES; j++) top[0] = top[j] > top[0] ? top[j] : top[0];
    return top[0];
}

/* The same by blocks: where k of them have a number from some bound on, the k-th greatest is not
 * below it. Over 128k tokens a choice takes half the time: most blocks are not looked at again. */
static void keep_blocks(left *l, int32_t k, int32_t size) {
    float most[MOST_BLOCKS];
    const int32_t blocks = (l->n + size - 1) / size;
    for (int32_t b = 0, at = 0; b < blocks; b++, at += size)
        most[b] = greatest_of_block(l->logits + at, l->n - at < size ? l->n - at : size);
    const float least = kth(most, blocks, k);
    int32_t n = 0;
    for (int32_t b = 0; b < blocks; b++) {
        const int32_t end = l->n - b * size < size ? l->n : (b + 1) * size;
        for (int32_t i = b * size; most[b] >= least && i < end; i++)
            if (l->logits[i] >= least) l->ids[n] = l->ids[i], l->logits[n++] = l->logits[i];
    }
    l->n = n;
}

static void top_k(left *l, double number) {
    if (number >= (double)l->n) return;
    const int32_t k = (int32_t)number;
    const int32_t size = (l->n / MOST_BLOCKS / LANES + 1) * LANES;
    if (k <= l->n / size / 4)
        keep_blocks(l, k, size);
    else
        keep_about(l, k);
    keep_from(l, kth(l->logits, l->n, k));
}

typedef struct ranked {
    double log_p;
    int32_t at;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->log_p != y->log_p) return x->log_p > y->log_p ? -1 : 1;
    return x->at - y->at;
}

/* The likeliest tokens that together have the mass; equals with the smallest ids first. */
static int32_t top_p(left *l, double mass) {
    const double most = greatest(l);
    double total = 0, near = 0;
    for (int32_t i = 0; i < l->n; i++) total += exp((double)l->logits[i] - most);
    const double norm = log(total);
    /* Most of a vocabulary is far too unlikely to matter, and sorting it is what costs. */
    int32_t count = 0, likely = 0;
    for (int32_t i = 0; i < l->n; i++)
        if ((double)l->logits[i] - most > -12) near += exp((double)l->logits[i] - most - norm), likely++;
    const int all = near < mass;
    ranked *sorted = malloc((size_t)(all ? l->n : likely) * sizeof *sorted);
    char *kept = calloc((size_t)l->n, 1);
    if (!sorted || !kept) {
        free(sorted);
        free(kept);
        return LLAMA_MEMORY;
    }
    for (int32_t i = 0; i < l->n; i++) {
        const double up = (double)l->logits[i] - most;
        if (all || up > -12) sorted[count++] = (ranked){up - norm, i};
    }
    qsort(sorted, (size_t)count, sizeof *sorted, by_rank);
    double before = 0;
    for (int32_t i = 0; i < count; i++) {
        kept[sorted[i].at] = 1;
        before += exp(sorted[i].log_p);
        if (before >= mass) break;
    }
    int32_t n = 0;
    for (int32_t i = 0; i < l->n; i++)
        if (kept[i]) l->ids[n] = l->ids[i], l->logits[n++] = l->logits[i];
    l->n = n;
    free(sorted);
    free(kept);
    return LLAMA_OK;
}

static int32_t likeliest(const left *l) {
    int32_t best = 0;
    for (int32_t i = 1; i < l->n; i++)
        if (l->logits[i] > l->logits[best]) best = i;
    return l->ids[best];
}

static int32_t draw(const left *l, double number, double *sums) {
    const double most = greatest(l);
    double total = 0;
    for (int32_t i = 0; i < l->n; i++) sums[i] = total += exp((double)l->logits[i] - most);
    for (int32_t i = 0; i < l->n; i++)
        if (sums[i] > number * total) return l->ids[i];
    return l->ids[l->n - 1];
}

static const char ends[] = {0, 0, 0, 0, 1, 1};

/* Whether a link always leaves the greatest, so that there is one to choose; no NaN passes. */
static int sensible(int32_t link, double number) {
    switch (link) {
    case LLAMA_TEMPERATURE:
    case LLAMA_TOP_P: return number > 0;
    case LLAMA_TOP_K: return number >= 1;
    case LLAMA_MIN_P: return number >= 0 && number <= 1;
    default: return 1;
    }
}

int chain_makes_sense(const llama_chain *c) {
    if (!c->links || !c->numbers) return 0;
    for (int32_t i = 0; i < c->count; i++) {
        const int32_t link = c->links[i];
        if (link < 0 || link > LLAMA_MULTINOMIAL || ends[link] != (i == c->count - 1)) return 0;
        if (!sensible(link, c->numbers[i])) return 0;
    }
    return c->count > 0;
}

static int32_t apply(left *l, int32_t link, double number) {
    switch (link) {
    case LLAMA_TEMPERATURE:
        for (int32_t i = 0; i < l->n; i++) l->logits[i] /= (float)number;
        return LLAMA_OK;
    case LLAMA_TOP_K: top_k(l, number); return LLAMA_OK;
    case LLAMA_TOP_P: return top_p(l, number);
    default:
        if (number > 0) keep_from(l, greatest(l) + (float)log(number));
        return LLAMA_OK;
    }
}

/* The greatest and how many are above minus infinity; 0 where one is not a number. In lanes, so
 * that a compiler makes vectors of them. */
static int survey(const float *x, int32_t V, float *most, int32_t *finite) {
    enum { W = 16 };
    float top[W];
    int32_t count[W] = {0}, odd[W] = {0}, i = 0;
    for (int j = 0; j < W; j++) top[j] = -INFINITY;
    for (; i + W <= V; i += W)
        for (int j = 0; j < W; j++) {
            top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
            count[j] += x[i + j] > -INFINITY;
            odd[j] |= x[i + j] != x[i + j];
        }
    for (; i < V; i++) {
        top[0] = x[i] > top[0] ? x[i] : top[0];
        count[0] += x[i] > -INFINITY;
        odd[0] |= x[i] != x[i];
    }
    *most = -INFINITY, *finite = 0;
    int32_t any = 0;
    for (int j = 0; j < W; j++) {
        *most = top[j] > *most ? top[j] : *most;
        *finite += count[j];
        any |= odd[j];
    }
    return !any;
}

static void list(left *l, const float *logits, int32_t V, int32_t finite) {
    if (finite == V) {
        memcpy(l->logits, logits, (size_t)V * sizeof *logits);
        for (int32_t i = 0; i < V; i++) l->ids[i] = i;
        l->n = V;
        return;
    }
    for (int32_t i = 0; i < V; i++)
        if (logits[i] > -INFINITY) l->ids[l->n] = i, l->logits[l->n++] = logits[i];
}

int32_t llama_sample(const float *logits, int32_t V, const llama_chain *chain, int32_t *token) {
    if (!logits || V < 1 || !chain || !token || !chain_makes_sense(chain))
        return LLAMA_ARGUMENT;
    float most;
    int32_t finite;
    *token = -1;
    if (!survey(logits, V, &most, &finite) || !isfinite(most)) return LLAMA_OK;
    if (chain->count == 1 && chain->links[0] == LLAMA_GREEDY) {
        for (*token = 0; logits[*token] != most;) ++*token;
        return LLAMA_OK;
    }
    left l = {.n = 0};
    l.ids = malloc((size_t)V * sizeof *l.ids);
    l.logits = malloc((size_t)V * sizeof *l.logits);
    int32_t status = l.ids && l.logits ? LLAMA_OK : LLAMA_MEMORY;
    if (!status) list(&l, logits, V, finite);
    for (int32_t i = 0; !status && isfinite(most) && i + 1 < chain->count; i++) {
        status = apply(&l, chain->links[i], chain->numbers[i]);
        if (chain->links[i] == LLAMA_TEMPERATURE) most /= (float)chain->numbers[i]; /* may overflow */
    }
    const int32_t end = isfinite(most) ? chain->links[chain->count - 1] : -1;
    if (!status && end == LLAMA_GREEDY) *token = likeliest(&l);
    if (!status && end == LLAMA_MULTINOMIAL) {
        double *sums = malloc((size_t)l.n * sizeof *sums);
        status = sums ? LLAMA_OK : LLAMA_MEMORY;
        if (sums) *token = draw(&l, uniform(chain->seed, chain->index), sums);
        free(sums);
    }
    free(l.ids);
    free(l.logits);
    return status;
}
