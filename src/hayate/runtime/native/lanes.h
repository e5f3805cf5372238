// The two number types of the kernels: how 16 of them become a register of fp32 and back, and how pairs are multiplied.

#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>

namespace {

constexpr int LANES = 16; // fp32 numbers in a register

__mmask16 first_lanes(int64_t count) { return count >= LANES ? (__mmask16)0xFFFF : (__mmask16)((1u << count) - 1u); }

// Loads a register and hides where it came from: GCC would otherwise load it again for each of the six rows, and a core
// loads no faster than it multiplies.
__m512i load_once(const uint32_t* from) {
    __m512i lanes = _mm512_loadu_si512(from);
    asm("" : "+v"(lanes));
    return lanes;
}

struct Bf16 {
    using Number = uint16_t;
    static constexpr int PAIR = 2;       // numbers in a 32-bit lane
    static constexpr int EXP_DEGREE = 4; // 4e-5, a fiftieth of bf16's rounding
    static __m512 load(const Number* from, __mmask16 mask = 0xFFFF) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
    }
    static void store(Number* to, __m512 x, __mmask16 mask = 0xFFFF) {
        _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
    }
    static __m512 multiply_add(__m512 sum, uint32_t left, __m512i right) {
        return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)left), (__m512bh)right);
    }
};

struct Fp32 {
    using Number = float;
    static constexpr int PAIR = 1;
    static constexpr int EXP_DEGREE = 7; // 5e-9
    static __m512 load(const Number* from, __mmask16 mask = 0xFFFF) { return _mm512_maskz_loadu_ps(mask, from); }
    static void store(Number* to, __m512 x, __mmask16 mask = 0xFFFF) { _mm512_mask_storeu_ps(to, mask, x); }
    static __m512 multiply_add(__m512 sum, uint32_t left, __m512i right) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_set1_epi32((int)left)), _mm512_castsi512_ps(right), sum);
    }
};

// 2^x: the nearest whole power by scaling the exponent, the rest by a Taylor polynomial on -0.5 ... 0.5.
template <int DEGREE>
__m512 exp2_of(__m512 x) {
    constexpr float c[8] = {1.0f, 0.69314718056f, 0.24022650695910f, 0.05550410866482f, 0.00961812910763f,
                            0.00133335581464f, 0.00015403530393f, 0.00001525273380f};
    // Zero from there on; minus infinity has no nearest whole number. In this order what is not a number stays so.
    x = _mm512_max_ps(_mm512_set1_ps(-150.0f), x);
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(c[DEGREE]);
    for (int i = DEGREE - 1; i >= 0; --i) y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(c[i]));
    return _mm512_scalef_ps(y, whole);
}

constexpr float LOG2_E = 1.4426950408889634f;

} // namespace
