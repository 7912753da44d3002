// The processor's vector instructions: which it has, and work compiled for them.
#pragma once

#include <atomic>

#include "common.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define PYRAD_X86 1
#elif defined(__aarch64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define PYRAD_ARM 1
#endif

// What functions between PYRAD_COMPILE_FOR(...) and PYRAD_COMPILE_FOR_ANY may use. The two x86 sets:
#define PYRAD_AVX2 "avx2,fma,f16c,bmi,bmi2"
#define PYRAD_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2"

#define PYRAD_PRAGMA(...) _Pragma(#__VA_ARGS__)
#if defined(__clang__)
#define PYRAD_COMPILE_FOR(set) PYRAD_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define PYRAD_COMPILE_FOR_ANY _Pragma("clang attribute pop")
#else
#define PYRAD_COMPILE_FOR(set) _Pragma("GCC push_options") PYRAD_PRAGMA(GCC target(set))
#define PYRAD_COMPILE_FOR_ANY _Pragma("GCC pop_options")
#endif

namespace pyrad {

enum class Instructions : int32_t { portable = 0, neon = 1, avx2 = 2, avx512 = 3 };

// The operations on vectors of each (vectors.h); Portable has none (tilepack.h).
struct Portable;
struct Neon;
struct Avx2;
struct Avx512;

inline bool has(Instructions set) {
#if defined(PYRAD_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (set == Instructions::avx2) return avx2;
    if (set == Instructions::avx512) {
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
#elif defined(PYRAD_ARM)
    if (set == Instructions::neon) return true;  // no aarch64 is without
#endif
    return set == Instructions::portable;
}

struct NamedInstructions {
    const char* name;
    Instructions set;
};

// The first that the processor has is used. avx512 has only been compiled so far, not run: it is used where it is asked
// for.
inline constexpr NamedInstructions instruction_sets[] = {{"avx2", Instructions::avx2},
                                                         {"neon", Instructions::neon},
                                                         {"portable", Instructions::portable},
                                                         {"avx512", Instructions::avx512}};

inline Instructions best_instructions() {
    for (const auto& [name, set] : instruction_sets) {
        if (has(set)) return set;
    }
    return Instructions::portable;
}

inline std::atomic<Instructions> instructions_in_use{best_instructions()};  // the tests change it, to compare them

template <class T>
struct Tag {
    using type = T;
};

#if defined(PYRAD_X86)
template <class Work>
__attribute__((target(PYRAD_AVX2), flatten, noinline)) void run_with_avx2(const Work& work) {
    work(Tag<Avx2>{});
}

template <class Work>
__attribute__((target(PYRAD_AVX512), flatten, noinline)) void run_with_avx512(const Work& work) {
    work(Tag<Avx512>{});
}
#endif

// Calls `work` with the tag of the best set, and compiled for it: `work` is a generic lambda around inline functions,
// compiled once a set by being inlined. All agree bit for bit: integers are exact, contraction is off, and fmaf is
// exact with or without the instruction.
template <class Work>
void run_fastest(const Work& work) {
    switch (instructions_in_use.load(std::memory_order_relaxed)) {
#if defined(PYRAD_X86)
        case Instructions::avx512:
            return run_with_avx512(work);
        case Instructions::avx2:
            return run_with_avx2(work);
#elif defined(PYRAD_ARM)
        case Instructions::neon:
            return work(Tag<Neon>{});
#endif
        default:
            return work(Tag<Portable>{});
    }
}

}  // namespace pyrad
