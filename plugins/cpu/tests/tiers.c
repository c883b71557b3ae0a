/* Compares every tier that runs here with the portable one, without Python: for processors that
 * only an emulator has. Prints what differs by more than rounding; the exit status counts it.
 *
 *   cmake -S . -B BUILD -DLLAMA_CPU_TESTS=ON && cmake --build BUILD && BUILD/tiers
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../native/llama_cpu.h"
#include "../native/matrix.h"
#include "../native/pool.h"
#include "../native/tier.h"

#define MOST 4096
#define ROWS 13

static int faults;
static uint32_t dice = 1;

static float number(void) {
    dice = dice * 1664525u + 1013904223u;
    return (float)(int32_t)dice / 2147483648.0f * 3.0f;
}

static void fill(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = number();
}

static void compare(const char *tier, const char *what, int size, const float *a, const float *b, int n) {
    /* Scores of 20 and more are rounded before exp makes factors of them. */
    const float bound = strcmp(what, "attend") ? 3e-6f : 1e-5f;
    float most = 1e-20f, off = 0;
    for (int i = 0; i < n; i++) {
        most = fabsf(a[i]) > most ? fabsf(a[i]) : most;
        off = fabsf(a[i] - b[i]) > off || a[i] != a[i] || b[i] != b[i] ? fabsf(a[i] - b[i]) : off;
    }
    if (!(off <= bound * most)) faults++, printf("%s: %s of %d is off by %g of %g\n", tier, what, size, off, most);
}

static void compare_rows(const kernels *k, const kernels *p, int n) {
    float x[MOST] = {0}, z[MOST] = {0}, a[MOST], b[MOST];
    fill(x, n);
    fill(z, n);
#define SAME(what, call_k, call_p) call_k, call_p, compare(k->name, what, n, a, b, n)
    SAME("rms_norm", k->rms_norm(x, n, z, n, 1e-5f, 1, a), p->rms_norm(x, n, z, n, 1e-5f, 1, b));
    SAME("layer_norm", k->layer_norm(x, n, z, x, 1e-5f, a), p->layer_norm(x, n, z, x, 1e-5f, b));
    SAME("add", k->add(x, z, n, a), p->add(x, z, n, b));
    SAME("mul", k->mul(x, z, 2, n, a), p->mul(x, z, 2, n, b));
    SAME("softcap", k->softcap(x, 2, n, a), p->softcap(x, 2, n, b));
    SAME("softmax", k->softmax(x, n, a), p->softmax(x, n, b));
    SAME("round_blocks", k->round_blocks(x, n, 8, 127, a), p->round_blocks(x, n, 8, 127, b));
    SAME("round_static", k->round_static(x, n, 0.1f, a), p->round_static(x, n, 0.1f, b));
    for (int fn = 0; fn <= LLAMA_TANH; fn++)
        SAME("glu", k->glu(fn, x, z, n, a), p->glu(fn, x, z, n, b));
    int half = n / 2;
    if (half) SAME("rope", k->rope(x, n, n, half, z, z + half, a), p->rope(x, n, n, half, z, z + half, b));
}

/* Integer products under every nesting of blocks and groups, in tiles of every number of rows; the
 * rows of a tile are the bits of a row alone. */
static void compare_codes(const kernels *k, const kernels *p, const matrix *m, const float *x, int block,
                          int most) {
    static int8_t code[ROWS * 1024];
    static float scale[ROWS * 128], a[ROWS * 128], b[ROWS * 128], alone[128];
    static int32_t sums[ROWS * 128];
    const int wide = block < m->padded ? block : m->padded, unit = wide < m->group ? wide : m->group;
    const int narrow = m->kind == M_CODES2 || m->kind == M_CODES1, large = wide < m->group ? m->group : wide;
    if ((large % unit && large != m->padded) || (narrow && unit % 32)) return;
    codes c = {code, scale, sums, 1024, 128, 128, wide, unit, most};
    for (int i = 0; i < ROWS; i++) p->quantize(x + i * 512, m->cols, &c, i);
    p->linear_codes(m, 0, m->panels, &c, 0, ROWS, b, 128, NULL);
    for (int i = 0; i < ROWS; i++) k->quantize(x + i * 512, m->cols, &c, i);
    for (int rows = 1; rows <= ROWS; rows += rows < 7 ? 1 : ROWS - 7) {
        k->linear_codes(m, 0, m->panels, &c, 0, rows, a, 128, NULL);
        for (int i = 0; i < rows; i++) compare(k->name, "linear_codes", m->cols, a + i * 128, b + i * 128, m->rows);
        k->linear_codes(m, 0, m->panels, &c, rows - 1, 1, alone, 128, NULL);
        if (memcmp(alone, a + (rows - 1) * 128, (size_t)m->rows * sizeof *alone))
            faults++, printf("%s: row %d of %d is not what it is alone\n", k->name, rows, ROWS);
    }
}

static void compare_linear(llama_pool *pool, const kernels *k, const kernels *p, int kind, int bits,
                           int rows, int cols, int group) {
    static float scales[MOST], least[MOST], x[ROWS * 512], a[MOST], b[MOST], table[16];
    static uint32_t data[1 << 18];
    matrix m;
    const char *why;
    const int groups = (cols + group - 1) / group, in_strips = cols % 32 == 0 && (group % 32 == 0 || group >= cols);
    fill(scales, rows * groups);
    fill(least, rows * groups);
    fill(table, 16);
    fill(x, ROWS * 512);
    for (int i = 0; i < rows * cols; i++) {
        float w = number();
        uint32_t u;
        memcpy(&u, &w, 4);
        if (kind == LLAMA_W_F32) data[i] = u;
        if (kind == LLAMA_W_F16) ((uint16_t *)data)[i] = (uint16_t)(u % 0x7c00u);
        if (kind == LLAMA_W_BF16) ((uint16_t *)data)[i] = (uint16_t)(u >> 16);
        if (kind >= LLAMA_W_AFFINE) ((uint8_t *)data)[i] = (uint8_t)(u >> 8 & ((1u << bits) - 1));
    }
    llama_weight_source s = {kind, rows, cols, bits, group, bits > 1 ? 1 << (bits - 1) : in_strips, data, scales,
                             kind == LLAMA_W_AFFINE && rows % 2 ? least : NULL, table};
    if (matrix_pack(pool, &s, &m, &why)) {
        faults++, printf("%s: cannot pack: %s\n", k->name, why);
        return;
    }
    for (int i = 0; i < ROWS; i++) memset(x + i * 512 + cols, 0, (size_t)(512 - cols) * 4);
    k->linear_float(&m, 0, m.panels, x, 512, 5, a, 128, scales);
    p->linear_float(&m, 0, m.panels, x, 512, 5, b, 128, scales);
    for (int i = 0; i < 5; i++) compare(k->name, "linear_float", cols, a + i * 128, b + i * 128, rows);
    for (int block = 8; kind == LLAMA_W_AFFINE && block <= 512; block *= 4) {
        compare_codes(k, p, &m, x, block, 127);
        compare_codes(k, p, &m, x, block, 63);
    }
    matrix_free(&m);
}

static void compare_attention(const kernels *k, const kernels *p, int type, int D, int past) {
    enum { BLOCKS = 50, BLOCK = 16 };
    static float keys[BLOCKS * BLOCK * 128], values[BLOCKS * BLOCK * 128], scales[2][BLOCKS * BLOCK];
    float q[4][128], a[4][128], b[4][128], x[128], y[128];
    int32_t table[BLOCKS];
    kv_layer kv = {type, 1, D, BLOCK, 1, (D + 15) / 16 * 16, 16u * (size_t)D,
                   16u * (size_t)((D + 15) / 16 * 16), (uint8_t *)keys, (uint8_t *)values, scales[0], scales[1]};
    attend_args w = {&kv, table, 0, 4, {0}, {0}, {0}, {0}, 0.2f, 0};
    for (int i = 0; i < BLOCKS; i++) table[i] = BLOCKS - 1 - i;
    for (int i = 0; i < past; i++) {
        fill(x, D), fill(y, D);
        (i % 2 ? k : p)->remember(&kv, table[i / BLOCK], i % BLOCK, 0, x, y);
    }
    for (int i = 0; i < 4; i++) {
        fill(q[i], D);
        w.q[i] = q[i], w.first[i] = i == 3 ? past / 2 : 0, w.last[i] = past - 1 - (i == 2);
    }
    for (int i = 0; i < 4; i++) w.out[i] = a[i];
    k->attend(&w);
    for (int i = 0; i < 4; i++) w.out[i] = b[i];
    p->attend(&w);
    for (int i = 0; i < 4; i++) compare(k->name, "attend", past, a[i], b[i], D);
}

static void compare_tier(llama_pool *pool, const kernels *k, const kernels *p) {
    const int sizes[] = {1, 7, 16, 33, 96, 100, 320};
    for (int i = 0; i < 7; i++) {
        compare_rows(k, p, sizes[i]);
        for (int rows = 15; rows <= 70; rows += 18) {
            for (int kind = LLAMA_W_F32; kind <= LLAMA_W_BF16; kind++)
                compare_linear(pool, k, p, kind, 0, rows, sizes[i], 32);
            compare_linear(pool, k, p, LLAMA_W_TABLE, 4, rows, sizes[i], 32);
            for (int group = 8; group <= 512; group *= 4) {
                for (int bits = 1; bits <= 8; bits += bits < 4 ? 1 : 4)
                    compare_linear(pool, k, p, LLAMA_W_AFFINE, bits, rows, sizes[i], group);
            }
        }
    }
    for (int type = LLAMA_KV_F32; type <= LLAMA_KV_Q8; type++)
        for (int D = 8; D <= 120; D += 28)
            for (int past = 2; past < 800; past = past * 3 + 1) compare_attention(k, p, type, D, past);
}

int main(void) {
    llama_pool *pool;
    const char *name;
    if (llama_pool_new(2, &pool)) return 100;
    pool_enter(pool);
    llama_tier_use("portable");
    const kernels *portable = llama_kernels();
    for (int32_t i = 0; (name = llama_tier_name(i)); i++) {
        const int before = faults;
        if (llama_tier_use(name)) {
            printf("%s: does not run here\n", name);
            continue;
        }
        compare_tier(pool, llama_kernels(), portable);
        printf("%s: %d differences\n", name, faults - before);
    }
    pool_leave(pool);
    llama_pool_free(pool);
    return faults > 99 ? 99 : faults;
}
