// Weights of several files mixed, number by number. A thread reads a chunk of each from the page cache into memory that
// stays in its core's cache, runs a program over it, and writes the result: each byte crosses the memory bus once.

#include "lanes.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <vector>

namespace {

constexpr int64_t CHUNK = 1 << 16;  // numbers that a thread takes at a time
constexpr int64_t BLOCK = 1 << 10;  // numbers that go through a program at once, so that its registers stay in the L1 cache
constexpr int REGISTERS = 40;
constexpr int64_t WIDEST = sizeof(float);

enum Type : int32_t { FP32, FP16, BF16 };
enum Op : int32_t { LOAD, LERP, ADD, SUBTRACT, SCALE, TRAIN };

struct Instruction {
    int32_t op, target, first, second;
    float number;
};

struct Input {
    int64_t start; // in bytes
    int32_t file, type;
};

struct Job {
    void* place;
    int64_t numbers, overflown;
    int32_t type, first_input, inputs, first_instruction, instructions, is_streamed;
};

int64_t size_of(int32_t type) { return type == FP32 ? 4 : 2; }

// Where an operand's numbers come from: a register, or an input of one of three types.
struct FromFp32 {
    const float* from;
    __m512 at(int64_t i) const { return _mm512_loadu_ps(from + i); }
};
struct FromFp16 {
    const uint16_t* from;
    __m512 at(int64_t i) const { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(from + i))); }
};
struct FromBf16 {
    const uint16_t* from;
    __m512 at(int64_t i) const { return Bf16::load(from + i); }
};

template <class Step>
void over_block(Step step) {
    for (int64_t i = 0; i < BLOCK; i += LANES) step(i);
}

template <class From>
void combine(const Instruction& each, float* to, From other) {
    const __m512 number = _mm512_set1_ps(each.number), less = _mm512_set1_ps(each.number - 1.0f);
    const auto own = [to](int64_t i) { return _mm512_load_ps(to + i); };
    const auto put = [to](int64_t i, __m512 x) { _mm512_store_ps(to + i, x); };
    switch (each.op) {
    case LOAD: return over_block([=](int64_t i) { put(i, other.at(i)); });
    case ADD: return over_block([=](int64_t i) { put(i, _mm512_fmadd_ps(other.at(i), number, own(i))); });
    case SUBTRACT: return over_block([=](int64_t i) { put(i, _mm512_sub_ps(own(i), other.at(i))); });
    case LERP: // from the nearer end, as PyTorch does, so that both ends are met exactly
        if (std::abs(each.number) < 0.5f) return over_block([=](int64_t i) {
            const __m512 start = own(i);
            put(i, _mm512_fmadd_ps(number, _mm512_sub_ps(other.at(i), start), start));
        });
        return over_block([=](int64_t i) {
            const __m512 end = other.at(i);
            put(i, _mm512_fmadd_ps(less, _mm512_sub_ps(end, own(i)), end));
        });
    }
}

int64_t count_overflown(const float* from, int64_t count, float limit) {
    int64_t overflown = 0;
    for (int64_t i = 0; i < count; ++i) overflown += std::abs(from[i]) >= limit && std::isfinite(from[i]);
    return overflown;
}

// Stores to the nearest, ties to even; returns how many finite numbers became infinite.
int64_t store_halves(const float* from, uint16_t* to, int64_t count, int32_t type, bool is_streamed) {
    __m512 largest = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 mask = first_lanes(count - i);
        const __m512 x = _mm512_maskz_loadu_ps(mask, from + i);
        const __m256i halves = type == FP16 ? _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) : (__m256i)_mm512_cvtneps_pbh(x);
        largest = _mm512_max_ps(_mm512_abs_ps(x), largest); // of a NaN and a number the second, so no NaN hides what was before
        if (is_streamed && count - i >= LANES) _mm256_stream_si256((__m256i*)(to + i), halves);
        else _mm256_mask_storeu_epi16(to + i, mask, halves);
    }
    const float limit = type == FP16 ? 65520.0f : 3.3961775e38f; // half-way between the largest number and what would follow
    return _mm512_reduce_max_ps(largest) < limit ? 0 : count_overflown(from, count, limit);
}

void store_floats(const float* from, float* to, int64_t count, bool is_streamed) {
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 mask = first_lanes(count - i);
        const __m512 x = _mm512_maskz_loadu_ps(mask, from + i);
        if (is_streamed && count - i >= LANES) _mm512_stream_ps(to + i, x);
        else _mm512_mask_storeu_ps(to + i, mask, x);
    }
}

// a + number (b - c) |b - a| / (|b - c| + |b - a|), where 0/0 is 0.
void train(float* a, const float* b, const float* c, float number) {
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        const __m512 own = _mm512_load_ps(a + i), other = _mm512_load_ps(b + i);
        const __m512 difference = _mm512_sub_ps(other, _mm512_load_ps(c + i)), distance = _mm512_abs_ps(_mm512_sub_ps(other, own));
        const __m512 share = _mm512_div_ps(distance, _mm512_add_ps(_mm512_abs_ps(difference), distance));
        const __m512 known = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(share, share, _CMP_ORD_Q), share);
        _mm512_store_ps(a + i, _mm512_fmadd_ps(_mm512_mul_ps(difference, known), _mm512_set1_ps(number), own));
    }
}

// Instructions that take an input right after it was loaded take it from there.
bool uses_at_once(const Instruction& load, const Instruction& next) {
    return load.op == LOAD && next.first == load.target && (next.op == LERP || next.op == ADD || next.op == SUBTRACT);
}

void run(const Instruction* program, int64_t count, float* registers, const char* raw, const Input* inputs, int64_t place) {
    for (int64_t n = 0; n < count; ++n) {
        const Instruction& load = program[n];
        const Instruction& each = n + 1 < count && uses_at_once(load, program[n + 1]) ? program[++n] : load;
        float *to = registers + each.target * BLOCK, *first = registers + each.first * BLOCK;
        if (load.op == LOAD) {
            const char* from = raw + load.first * CHUNK * WIDEST;
            const int32_t type = inputs[load.first].type;
            if (type == FP32) combine(each, to, FromFp32{(const float*)from + place});
            else if (type == FP16) combine(each, to, FromFp16{(const uint16_t*)from + place});
            else combine(each, to, FromBf16{(const uint16_t*)from + place});
        } else if (each.op == TRAIN) {
            train(to, first, registers + each.second * BLOCK, each.number);
        } else if (each.op == SCALE) {
            const __m512 number = _mm512_set1_ps(each.number);
            over_block([=](int64_t i) { _mm512_store_ps(to + i, _mm512_mul_ps(_mm512_load_ps(to + i), number)); });
        } else {
            combine(each, to, FromFp32{first});
        }
    }
}

bool read_all(int file, char* to, int64_t bytes, int64_t start) {
    while (bytes > 0) {
        const ssize_t read = pread(file, to, bytes, start);
        if (read < 0 && errno == EINTR) continue;
        if (read <= 0) return false; // an error, or the file has become shorter
        to += read, start += read, bytes -= read;
    }
    return true;
}

// What one thread works with. The numbers behind the last of a chunk are whatever was there before, and nobody's.
struct Workplace {
    char* raw = nullptr;
    float* registers = nullptr;
    explicit Workplace(int64_t inputs)
        : raw((char*)std::aligned_alloc(64, inputs * CHUNK * WIDEST)),
          registers((float*)std::aligned_alloc(64, sizeof(float) * REGISTERS * BLOCK)) {}
    ~Workplace() { std::free(raw), std::free(registers); }
};

// Returns 0, or 2 + the number of the input that could not be read.
int64_t blend_chunk(Job& job, const Input* inputs, const Instruction* program, Workplace& own, int64_t start) {
    const int64_t count = std::min(CHUNK, job.numbers - start);
    for (int64_t n = 0; n < job.inputs; ++n) {
        const int64_t size = size_of(inputs[n].type);
        if (!read_all(inputs[n].file, own.raw + n * CHUNK * WIDEST, count * size, inputs[n].start + start * size)) return 2 + n;
    }
    int64_t overflown = 0;
    char* to = (char*)job.place + start * size_of(job.type);
    const bool is_streamed = job.is_streamed && (uintptr_t)to % 64 == 0;
    for (int64_t block = 0; block < count; block += BLOCK) {
        const int64_t numbers = std::min(BLOCK, count - block);
        run(program, job.instructions, own.registers, own.raw, inputs, block);
        if (job.type == FP32) store_floats(own.registers, (float*)to + block, numbers, is_streamed);
        else overflown += store_halves(own.registers, (uint16_t*)to + block, numbers, job.type, is_streamed);
    }
    if (overflown) __atomic_fetch_add(&job.overflown, overflown, __ATOMIC_RELAXED);
    return 0;
}

} // namespace

extern "C" {

// Runs every job; register 0 holds a program's result. Returns 0, 1 when memory ran out, or 2 + the number of an input
// that could not be read to its end, counted over all jobs.
int64_t hayate_blend(Job* jobs, int64_t count, const Input* inputs, const Instruction* instructions, int threads) {
    std::vector<int64_t> ends(count);
    int64_t chunks = 0, most_inputs = 1;
    for (int64_t n = 0; n < count; ++n) {
        ends[n] = chunks += (jobs[n].numbers + CHUNK - 1) / CHUNK;
        most_inputs = std::max<int64_t>(most_inputs, jobs[n].inputs);
    }
    std::atomic<int64_t> next{0}, failure{0};
#pragma omp parallel num_threads(threads)
    {
        Workplace own(most_inputs);
        if (!own.raw || !own.registers) failure = 1;
        for (int64_t chunk; !failure && (chunk = next++) < chunks;) {
            const int64_t n = std::upper_bound(ends.begin(), ends.end(), chunk) - ends.begin();
            Job& job = jobs[n];
            const int64_t start = (chunk - (n ? ends[n - 1] : 0)) * CHUNK;
            if (const int64_t code = blend_chunk(job, inputs + job.first_input, instructions + job.first_instruction, own, start))
                failure = code == 1 ? 1 : code + job.first_input;
        }
        _mm_sfence(); // streamed numbers are there before anybody else looks
    }
    return failure;
}
}
