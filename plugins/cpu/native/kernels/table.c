/* The table of this tier. */
#include "tier.h"

const kernels T(llama_kernels) = {
    .name = TIER_NAME,
    .linear_float = T(linear_float),
    .linear_codes = T(linear_codes),
    .quantize = T(quantize),
    .round_blocks = T(round_blocks),
    .round_static = T(round_static),
    .rms_norm = T(rms_norm),
    .layer_norm = T(layer_norm),
    .rope = T(rope),
    .activation = T(activation),
    .glu = T(glu),
    .add = T(add),
    .mul = T(mul),
    .softcap = T(softcap),
    .add_scaled = T(add_scaled),
    .softmax = T(softmax),
    .dot = T(dot),
    .remember = T(remember),
    .attend = T(attend),
};
