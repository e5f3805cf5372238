// What lies between the matrix products, each in one reading and one writing of its tensor: the gate of a GEGLU, and a
// group norm over channels-last maps with the addition before and the SiLU after it.

#include "lanes.h"

#include <algorithm>
#include <cstdlib>

namespace {

// The error function to 1.5e-7. Source: Abramowitz & Stegun 1964, 7.1.26.
template <int DEGREE>
__m512 erf_of(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), size = _mm512_abs_ps(x);
    const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(_mm512_set1_ps(0.3275911f), size, one));
    __m512 y = _mm512_set1_ps(1.061405429f);
    for (float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(c));
    const __m512 fall = exp2_of<DEGREE>(_mm512_mul_ps(_mm512_mul_ps(size, size), _mm512_set1_ps(-LOG2_E)));
    y = _mm512_fnmadd_ps(_mm512_mul_ps(y, t), fall, one);
    return _mm512_or_ps(y, _mm512_and_ps(x, _mm512_set1_ps(-0.0f))); // the sign of x
}

template <class T>
void gate_rows(const void* from_, void* to_, int64_t rows, int64_t width, int threads) {
    const auto* from = static_cast<const typename T::Number*>(from_);
    auto* to = static_cast<typename T::Number*>(to_);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
        const auto* row = from + r * 2 * width;
        for (int64_t c = 0; c < width; c += LANES) {
            const __mmask16 mask = first_lanes(width - c);
            const __m512 gate = T::load(row + width + c, mask), half = _mm512_mul_ps(gate, _mm512_set1_ps(0.5f));
            const __m512 bell = erf_of<7>(_mm512_mul_ps(gate, _mm512_set1_ps(0.70710678f)));
            T::store(to + r * width + c, _mm512_mul_ps(T::load(row + c, mask), _mm512_fmadd_ps(half, bell, half)), mask);
        }
    }
}

constexpr int64_t BLOCK = 64; // positions whose sums are kept in fp32 before they join the fp64 ones

struct Norm {
    int64_t batch, positions, channels, groups;
    float eps;
    bool is_activated;
    int64_t shift_stride; // of the batch, 0 where all share one shift
};

// Sums of the differences from the map's first position, and of their squares, for the channels of one block.
template <class T>
void sum_block(const Norm& norm, const typename T::Number* x, int64_t first, float* sums) {
    const int64_t end = std::min(norm.positions, first + BLOCK), width = norm.channels;
    for (int64_t c = 0; c < width; c += LANES) {
        const __mmask16 mask = first_lanes(width - c);
        const __m512 origin = T::load(x + c, mask);
        __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
        for (int64_t n = first; n < end; ++n) {
            const __m512 difference = _mm512_sub_ps(T::load(x + n * width + c, mask), origin);
            sum = _mm512_add_ps(sum, difference);
            squares = _mm512_fmadd_ps(difference, difference, squares);
        }
        _mm512_mask_storeu_ps(sums + c, mask, sum);
        _mm512_mask_storeu_ps(sums + width + c, mask, squares);
    }
}

// The factor and offset of every channel, from the blocks' sums. Chan et al. 1983 for joining variances.
template <class T>
void solve(const Norm& norm, const typename T::Number* x, const typename T::Number* shift, const typename T::Number* weight,
           const typename T::Number* bias, const float* sums, int64_t blocks, float* factors) {
    const int64_t width = norm.channels, members = width / norm.groups;
    const auto number = [](const typename T::Number* from) { return (double)_mm512_cvtss_f32(T::load(from, 1)); };
    for (int64_t group = 0; group < norm.groups; ++group) {
        double mean = 0.0, spread = 0.0; // spread: sum of squared distances from the mean
        for (int64_t i = 0; i < members; ++i) {
            const int64_t c = group * members + i;
            double sum = 0.0, squares = 0.0;
            for (int64_t n = 0; n < blocks; ++n) sum += sums[n * 2 * width + c], squares += sums[(n * 2 + 1) * width + c];
            const double own = sum / norm.positions + number(x + c) + (shift ? number(shift + c) : 0.0);
            const double distance = own - mean;
            spread += squares - sum * sum / norm.positions + distance * distance * norm.positions * i / (i + 1);
            mean += distance / (i + 1);
        }
        const double scale = 1.0 / std::sqrt(spread / ((double)norm.positions * members) + norm.eps);
        for (int64_t c = group * members; c < (group + 1) * members; ++c) {
            const double factor = scale * number(weight + c);
            factors[c] = (float)factor;
            factors[width + c] = (float)(number(bias + c) + factor * ((shift ? number(shift + c) : 0.0) - mean));
        }
    }
}

template <class T>
void apply(const Norm& norm, const typename T::Number* x, const float* factors, typename T::Number* y) {
    for (int64_t c = 0; c < norm.channels; c += LANES) {
        const __mmask16 mask = first_lanes(norm.channels - c);
        const __m512 factor = _mm512_maskz_loadu_ps(mask, factors + c);
        const __m512 offset = _mm512_maskz_loadu_ps(mask, factors + norm.channels + c);
        __m512 value = _mm512_fmadd_ps(T::load(x + c, mask), factor, offset);
        if (norm.is_activated) {
            const __m512 fall = exp2_of<T::EXP_DEGREE>(_mm512_mul_ps(value, _mm512_set1_ps(-LOG2_E)));
            value = _mm512_div_ps(value, _mm512_add_ps(_mm512_set1_ps(1.0f), fall));
        }
        T::store(y + c, value, mask);
    }
}

template <class T>
int normalise(const Norm& norm, const void* x_, const void* shift_, const void* weight_, const void* bias_, void* y_, int threads) {
    using Number = typename T::Number;
    const auto *x = static_cast<const Number*>(x_), *shift = static_cast<const Number*>(shift_);
    const auto *weight = static_cast<const Number*>(weight_), *bias = static_cast<const Number*>(bias_);
    auto* y = static_cast<Number*>(y_);
    const int64_t blocks = (norm.positions + BLOCK - 1) / BLOCK, size = norm.positions * norm.channels;
    auto* sums = static_cast<float*>(std::malloc(sizeof(float) * 2 * norm.channels * norm.batch * (blocks + 1)));
    if (!sums) return 1;
    float* factors = sums + 2 * norm.channels * norm.batch * blocks;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < norm.batch * blocks; ++n)
            sum_block<T>(norm, x + n / blocks * size, n % blocks * BLOCK, sums + n * 2 * norm.channels);
#pragma omp for schedule(static)
        for (int64_t b = 0; b < norm.batch; ++b)
            solve<T>(norm, x + b * size, shift ? shift + b * norm.shift_stride : nullptr, weight, bias,
                     sums + b * blocks * 2 * norm.channels, blocks, factors + b * 2 * norm.channels);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < norm.batch * norm.positions; ++n)
            apply<T>(norm, x + n * norm.channels, factors + n / norm.positions * 2 * norm.channels, y + n * norm.channels);
    }
    std::free(sums);
    return 0;
}

} // namespace

extern "C" {

// to[rows][width] = from[rows][0 ... width] * gelu(from[rows][width ... 2 width])
void hayate_geglu_bf16(const void* from, void* to, int64_t rows, int64_t width, int threads) {
    gate_rows<Bf16>(from, to, rows, width, threads);
}
void hayate_geglu_fp32(const void* from, void* to, int64_t rows, int64_t width, int threads) {
    gate_rows<Fp32>(from, to, rows, width, threads);
}

// sizes: batch, positions, channels, groups, stride of the shift's batch. x and y are [batch][positions][channels];
// shift may be null. Returns 0, or 1 when memory ran out.
int hayate_group_norm_bf16(const void* x, const void* shift, const void* weight, const void* bias, void* y,
                           const int64_t* sizes, float eps, int is_activated, int threads) {
    return normalise<Bf16>({sizes[0], sizes[1], sizes[2], sizes[3], eps, is_activated != 0, sizes[4]}, x, shift, weight, bias, y, threads);
}
int hayate_group_norm_fp32(const void* x, const void* shift, const void* weight, const void* bias, void* y,
                           const int64_t* sizes, float eps, int is_activated, int threads) {
    return normalise<Fp32>({sizes[0], sizes[1], sizes[2], sizes[3], eps, is_activated != 0, sizes[4]}, x, shift, weight, bias, y, threads);
}
}
