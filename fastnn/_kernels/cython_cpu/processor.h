/* What this processor, and the operating system under it, can run: the levels of
 * tools/compiler_probe.py. */

#ifndef FASTNN_PROCESSOR_H
#define FASTNN_PROCESSOR_H

/* The highest of x86-64's levels: 4 with AVX-512, 3 with AVX2 and fused multiply-add, else 0. */
static int processor_level(void)
{
#if defined(__GNUC__) && defined(__x86_64__)
    __builtin_cpu_init(); /* Clang does not do so by itself */
    const int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                   && __builtin_cpu_supports("bmi2");
    const int v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                   && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
                   && __builtin_cpu_supports("avx512vl");
    return v3 && v4 ? 4 : v3 ? 3 : 0;
#else
    return 0;
#endif
}

#endif
