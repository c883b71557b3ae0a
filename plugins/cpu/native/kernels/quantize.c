/* Activations in 8 or 7 bits, by exactly the operations of the reference, where `most` is 127 or 63:
 * inverse = most / max|x|, code = round-half-to-even(x * inverse), scale = max|x| / most.
 *
 * Legend: a row has `cols` numbers; a block shares a scale, a unit has its codes summed.
 */
#include "tier.h"

/* The greatest absolute value; infinite and NaN rank highest, since bits order like numbers. */
static float greatest(const float *x, int32_t width) {
    uint32_t most = 0;
    for (int32_t i = 0; i < width; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        u &= 0x7fffffffu;
        most = u > most ? u : most;
    }
    float value;
    memcpy(&value, &most, 4);
    return value;
}

static float block_scale(const float *x, int32_t width, int32_t most, float *inverse) {
    const float widest = greatest(x, width), codes = (float)most;
    const int tiny = widest < 1e-36f;
    *inverse = tiny ? 0.0f : codes / widest;
    return tiny ? 0.0f : widest / codes;
}

void T(quantize)(const float *x, int32_t cols, const codes *out, int32_t row) {
    int8_t *code = out->codes + (size_t)row * out->code_stride;
    float *scales = out->scales + (size_t)row * out->scale_stride;
    int32_t *sums = out->sums + (size_t)row * out->sum_stride;
    for (int32_t at = 0; at < cols; at += out->block) {
        int32_t width = cols - at < out->block ? cols - at : out->block;
        float inverse;
        scales[at / out->block] = block_scale(x + at, width, out->most, &inverse);
        vf factor = vf_set(inverse);
        int32_t i = 0;
        for (; i + LANES <= width; i += LANES)
            vf_store_s8(code + at + i, vf_mul(vf_load(x + at + i), factor));
        if (i < width) {
            int8_t part[LANES];
            vf_store_s8(part, vf_mul(vf_load_part(x + at + i, width - i), factor));
            memcpy(code + at + i, part, (size_t)(width - i));
        }
    }
    memset(code + cols, 0, out->code_stride - (size_t)cols);
    for (int32_t at = 0; at < cols; at += out->unit) {
        int32_t end = cols - at < out->unit ? cols : at + out->unit, total = 0;
        for (int32_t i = at; i < end; i++) total += code[i];
        sums[at / out->unit] = total;
    }
}

/* To codes and back to numbers, for weights whose kernel computes in floats. */
void T(round_blocks)(const float *x, int32_t cols, int32_t block, int32_t most, float *y) {
    for (int32_t at = 0; at < cols; at += block) {
        int32_t width = cols - at < block ? cols - at : block;
        float inverse, scale = block_scale(x + at, width, most, &inverse);
        vf up = vf_set(inverse), down = vf_set(scale);
        for (int32_t i = 0; i < width; i += LANES) {
            int32_t n = width - i < LANES ? width - i : LANES;
            vf v = vf_round(vf_mul(vf_load_part(x + at + i, n), up));
            vf_store_part(y + at + i, vf_mul(v, down), n);
        }
    }
}

void T(round_static)(const float *x, int32_t cols, float step, float *y) {
    vf down = vf_set(step), most = vf_set(127.0f), least = vf_set(-127.0f);
    for (int32_t i = 0; i < cols; i += LANES) {
        int32_t n = cols - i < LANES ? cols - i : LANES;
        vf v = vf_round(vf_div(vf_load_part(x + i, n), down));
        vf_store_part(y + i, vf_mul(vf_least(most, vf_most(least, v)), down), n);
    }
}
