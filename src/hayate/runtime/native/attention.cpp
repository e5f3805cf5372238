// softmax(scale * Q K^T) V for CPUs with AVX-512, without the matrix of scores in memory.
//
// The keys of one head are packed so that one 512-bit load holds the same pair of dimensions of 16 keys; the values so
// that one holds a pair of keys for 16 dimensions (vdpbf16ps multiplies pairs). Rows of queries are taken six at a time:
// 6 x 64 scores are 24 registers of sums, four loads of keys serve six rows. Per block of keys the scores stay in the
// first-level cache, go through a streaming softmax (Milakov & Gimelshein 2018), are rounded to the type of the values, and
// are multiplied with them. Sums, maxima and the output's accumulators are fp32. The order of all sums is fixed by the
// shapes alone, so equal inputs give equal bits, whatever the number of threads.
//
// In fp32 the pairs are single numbers and vdpbf16ps a fused multiply-add.

#include "lanes.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace {

constexpr int ROWS = 6;       // queries in a tile
constexpr int TILE_KEYS = 64; // keys in a tile of scores
constexpr int BLOCK_ROWS = 96;

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

template <class T>
struct Shape {
    using Number = typename T::Number;
    int64_t batch, heads, queries, keys, width;   // width: dimensions of a head
    int64_t q_strides[3], k_strides[3], v_strides[3], o_strides[3]; // of batch, head, token, in numbers
    float scale;

    int64_t lanes() const { return (width + T::PAIR - 1) / T::PAIR; }      // 32-bit lanes of a query
    int64_t padded_keys() const { return round_up(keys, TILE_KEYS); }
    int64_t padded_width() const { return round_up(width, LANES); }
    int64_t packed_keys_size() const { return padded_keys() * lanes(); }   // both in 32-bit lanes
    int64_t packed_values_size() const { return padded_keys() / T::PAIR * padded_width(); }
    // Keys of a block: scores and probabilities of a tile and both packed operands in the caches nearest to the core.
    int64_t block_keys() const { return width <= 64 ? 256 : width <= 160 ? 128 : TILE_KEYS; }
};

template <class T>
void pack_keys(const Shape<T>& shape, const typename T::Number* k, uint32_t* packed) {
    const int64_t lanes = shape.lanes();
    for (int64_t first = 0; first < shape.padded_keys(); first += TILE_KEYS, packed += lanes * TILE_KEYS) {
        for (int64_t n = 0; n < TILE_KEYS; ++n) {
            const bool is_there = first + n < shape.keys;
            const typename T::Number* row = k + (first + n) * shape.k_strides[2];
            for (int64_t p = 0; p < lanes; ++p) {
                uint32_t lane = 0;
                if (is_there) std::memcpy(&lane, row + p * T::PAIR, sizeof lane);
                packed[p * TILE_KEYS + n] = lane;
            }
        }
    }
}

template <class T>
void pack_values(const Shape<T>& shape, const typename T::Number* v, typename T::Number* packed) {
    const int64_t columns = shape.padded_width();
    for (int64_t first = 0; first < shape.padded_keys(); first += T::PAIR, packed += columns * T::PAIR) {
        for (int64_t j = 0; j < T::PAIR; ++j) {
            const bool is_there = first + j < shape.keys;
            const typename T::Number* row = v + (first + j) * shape.v_strides[2];
            for (int64_t c = 0; c < columns; ++c)
                packed[c * T::PAIR + j] = is_there && c < shape.width ? row[c] : typename T::Number(0);
        }
    }
}

// scores[6][64] = queries[6][lanes] * keys[lanes][64]
template <class T>
void multiply_keys(const uint32_t* __restrict q, const uint32_t* __restrict k, int64_t lanes, float* __restrict scores,
                   int64_t stride) {
    __m512 sum[ROWS][4];
    for (auto& row : sum)
        for (auto& part : row) part = _mm512_setzero_ps();
    for (int64_t p = 0; p < lanes; ++p) {
        __m512i right[4];
        for (int c = 0; c < 4; ++c) right[c] = load_once(k + p * TILE_KEYS + c * LANES);
        for (int r = 0; r < ROWS; ++r)
            for (int c = 0; c < 4; ++c) sum[r][c] = T::multiply_add(sum[r][c], q[r * lanes + p], right[c]);
    }
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < 4; ++c) _mm512_storeu_ps(scores + r * stride + c * LANES, sum[r][c]);
}

// output[6][16 * PARTS] = output * factor + probabilities[6][lanes] * values[lanes][16 * PARTS]
template <class T, int PARTS>
void multiply_values(const uint32_t* __restrict p, int64_t p_stride, const uint32_t* __restrict v, int64_t lanes,
                     int64_t v_stride, const float* factor, float* __restrict output, int64_t o_stride) {
    __m512 sum[ROWS][PARTS];
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < PARTS; ++c)
            sum[r][c] = _mm512_mul_ps(_mm512_loadu_ps(output + r * o_stride + c * LANES), _mm512_set1_ps(factor[r]));
    for (int64_t j = 0; j < lanes; ++j) {
        __m512i right[PARTS];
        for (int c = 0; c < PARTS; ++c) right[c] = load_once(v + j * v_stride + c * LANES);
        for (int r = 0; r < ROWS; ++r)
            for (int c = 0; c < PARTS; ++c) sum[r][c] = T::multiply_add(sum[r][c], p[r * p_stride + j], right[c]);
    }
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < PARTS; ++c) _mm512_storeu_ps(output + r * o_stride + c * LANES, sum[r][c]);
}

template <class T>
void multiply_all_values(const uint32_t* p, int64_t p_stride, const uint32_t* v, int64_t lanes, int64_t columns,
                         const float* factor, float* output) {
    const int64_t parts = columns / LANES, chunks = (parts + 3) / 4;
    for (int64_t chunk = 0, first = 0; chunk < chunks; ++chunk) {
        const int64_t width = (parts - first) / (chunks - chunk);
        const uint32_t* right = v + first * LANES;
        float* to = output + first * LANES;
        switch (width) {
            case 1: multiply_values<T, 1>(p, p_stride, right, lanes, columns, factor, to, columns); break;
            case 2: multiply_values<T, 2>(p, p_stride, right, lanes, columns, factor, to, columns); break;
            case 3: multiply_values<T, 3>(p, p_stride, right, lanes, columns, factor, to, columns); break;
            default: multiply_values<T, 4>(p, p_stride, right, lanes, columns, factor, to, columns);
        }
        first += width;
    }
}

// One row of scores to probabilities, in place of its running maximum and sum; the factor that older sums need.
template <class T>
float soften(const float* scores, int64_t count, float scale, float& maximum, float& total, uint32_t* probabilities) {
    __m512 highest = _mm512_loadu_ps(scores);
    for (int64_t n = LANES; n < count; n += LANES) highest = _mm512_max_ps(highest, _mm512_loadu_ps(scores + n));
    const float now = std::fmax(maximum, _mm512_reduce_max_ps(highest));
    const float factor = std::exp2((maximum - now) * scale);
    // The difference first: the largest score must give exactly one, however large it is.
    const __m512 scaling = _mm512_set1_ps(scale), offset = _mm512_set1_ps(now);
    __m512 sum = _mm512_setzero_ps();
    auto* to = reinterpret_cast<typename T::Number*>(probabilities);
    for (int64_t n = 0; n < count; n += LANES) {
        const __m512 p = exp2_of<T::EXP_DEGREE>(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + n), offset), scaling));
        sum = _mm512_add_ps(sum, p);
        T::store(to + n, p, 0xFFFF);
    }
    maximum = now;
    total = total * factor + _mm512_reduce_add_ps(sum);
    return factor;
}

// Everything that one thread needs for a block of queries.
template <class T>
struct Scratch {
    uint32_t* q;      // [tiles][6][lanes]
    float* scores;    // [6][block keys]
    uint32_t* p;      // [6][block keys / pair]
    float* output;    // [tiles][6][padded width]
    float maximum[BLOCK_ROWS], total[BLOCK_ROWS];

    explicit Scratch(const Shape<T>& shape)
        : q(take<uint32_t>(BLOCK_ROWS * shape.lanes())), scores(take<float>(ROWS * shape.block_keys())),
          p(take<uint32_t>(ROWS * shape.block_keys() / T::PAIR)), output(take<float>(BLOCK_ROWS * shape.padded_width())) {}
    ~Scratch() { std::free(q), std::free(scores), std::free(p), std::free(output); }
    bool is_there() const { return q && scores && p && output; }

    template <class N>
    static N* take(int64_t count) {
        return static_cast<N*>(std::aligned_alloc(64, round_up(count * (int64_t)sizeof(N), 64)));
    }
};

template <class T>
void attend(const Shape<T>& shape, const typename T::Number* q, const uint32_t* keys, const uint32_t* values,
            typename T::Number* o, int64_t first, Scratch<T>& scratch) {
    const int64_t rows = std::min<int64_t>(BLOCK_ROWS, shape.queries - first), tiles = (rows + ROWS - 1) / ROWS;
    const int64_t lanes = shape.lanes(), columns = shape.padded_width(), block = shape.block_keys();
    const float scale = shape.scale * LOG2_E; // powers of two are cheaper than powers of e
    std::memset(scratch.q, 0, sizeof(uint32_t) * tiles * ROWS * lanes);
    for (int64_t r = 0; r < rows; ++r)
        std::memcpy(scratch.q + r * lanes, q + (first + r) * shape.q_strides[2], shape.width * sizeof(*q));
    std::memset(scratch.output, 0, sizeof(float) * tiles * ROWS * columns);
    for (int64_t r = 0; r < tiles * ROWS; ++r)
        scratch.maximum[r] = -std::numeric_limits<float>::infinity(), scratch.total[r] = 0.0f;

    for (int64_t start = 0; start < shape.padded_keys(); start += block) {
        const int64_t count = std::min(block, shape.padded_keys() - start);
        const int64_t absent = std::max<int64_t>(0, start + count - shape.keys);
        for (int64_t tile = 0; tile < tiles; ++tile) {
            for (int64_t n = 0; n < count; n += TILE_KEYS)
                multiply_keys<T>(scratch.q + tile * ROWS * lanes, keys + (start + n) * lanes, lanes, scratch.scores + n, block);
            float factor[ROWS];
            for (int r = 0; r < ROWS; ++r) {
                float* row = scratch.scores + r * block;
                for (int64_t n = count - absent; n < count; ++n) row[n] = -std::numeric_limits<float>::infinity();
                factor[r] = soften<T>(row, count, scale, scratch.maximum[tile * ROWS + r], scratch.total[tile * ROWS + r],
                                      scratch.p + r * (block / T::PAIR));
            }
            multiply_all_values<T>(scratch.p, block / T::PAIR, values + start / T::PAIR * columns, count / T::PAIR, columns,
                                   factor, scratch.output + tile * ROWS * columns);
        }
    }
    for (int64_t r = 0; r < rows; ++r) {
        const __m512 share = _mm512_set1_ps(1.0f / scratch.total[r]);
        for (int64_t c = 0; c < shape.width; c += LANES) {
            const __mmask16 mask = (__mmask16)((1u << std::min<int64_t>(LANES, shape.width - c)) - 1u);
            T::store(o + (first + r) * shape.o_strides[2] + c,
                     _mm512_mul_ps(_mm512_loadu_ps(scratch.output + r * columns + c), share), mask);
        }
    }
}

template <class T>
int run(const Shape<T>& shape, const void* q_, const void* k_, const void* v_, void* o_, int threads) {
    using Number = typename T::Number;
    const auto *q = static_cast<const Number*>(q_), *k = static_cast<const Number*>(k_), *v = static_cast<const Number*>(v_);
    auto* o = static_cast<Number*>(o_);
    const int64_t pairs = shape.batch * shape.heads, blocks = (shape.queries + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const int64_t keys_size = round_up(shape.packed_keys_size(), 16), values_size = round_up(shape.packed_values_size(), 16);
    auto* packed = Scratch<T>::template take<uint32_t>(pairs * (keys_size + values_size));
    if (!packed) return 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < pairs; ++n) {
            const int64_t b = n / shape.heads, h = n % shape.heads;
            uint32_t* to = packed + n * (keys_size + values_size);
            pack_keys<T>(shape, k + b * shape.k_strides[0] + h * shape.k_strides[1], to);
            pack_values<T>(shape, v + b * shape.v_strides[0] + h * shape.v_strides[1], reinterpret_cast<Number*>(to + keys_size));
        }
        Scratch<T> scratch(shape);
        failed |= !scratch.is_there();
#pragma omp for schedule(static)
        for (int64_t n = 0; n < pairs * blocks; ++n) {
            if (!scratch.is_there()) continue;
            const int64_t pair = n / blocks, b = pair / shape.heads, h = pair % shape.heads;
            const uint32_t* from = packed + pair * (keys_size + values_size);
            attend<T>(shape, q + b * shape.q_strides[0] + h * shape.q_strides[1], from, from + keys_size,
                      o + b * shape.o_strides[0] + h * shape.o_strides[1], n % blocks * BLOCK_ROWS, scratch);
        }
    }
    std::free(packed);
    return failed;
}

template <class T>
int attention(const void* q, const void* k, const void* v, void* o, const int64_t* sizes, const int64_t* strides,
              float scale, int threads) {
    Shape<T> shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], {}, {}, {}, {}, scale};
    for (int i = 0; i < 3; ++i) {
        shape.q_strides[i] = strides[i], shape.k_strides[i] = strides[3 + i];
        shape.v_strides[i] = strides[6 + i], shape.o_strides[i] = strides[9 + i];
    }
    return run<T>(shape, q, k, v, o, threads);
}

} // namespace

extern "C" {

// sizes: batch, heads, queries, keys, width. strides: of batch, head and token for q, k, v, o, in numbers; the width is
// contiguous. Returns 0, or 1 when memory ran out.
int hayate_attention_bf16(const void* q, const void* k, const void* v, void* o, const int64_t* sizes, const int64_t* strides,
                          float scale, int threads) {
    return attention<Bf16>(q, k, v, o, sizes, strides, scale, threads);
}

int hayate_attention_fp32(const void* q, const void* k, const void* v, void* o, const int64_t* sizes, const int64_t* strides,
                          float scale, int threads) {
    return attention<Fp32>(q, k, v, o, sizes, strides, scale, threads);
}
}
