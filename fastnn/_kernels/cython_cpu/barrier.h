/* The barrier that keeps the threads of a run in step; see numba_cpu/barrier.py, which does the
 * same. */

#ifndef FASTNN_BARRIER_H
#define FASTNN_BARRIER_H

#include "machine.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(_MSC_VER)
#include <intrin.h>
#include <windows.h>
#else
#include <time.h>
#endif

/* The fields of a barrier: `kernel_arguments` says what they mean. */
#define SLEEPERS 1
#define SPINS 2

#if defined(_MSC_VER)
INLINE int64_t atomic_add(int64_t *word, int64_t n)
{
    return _InterlockedExchangeAdd64(word, n) + n;
}
INLINE int64_t atomic_load(int64_t *word) { return _InterlockedOr64(word, 0); }
INLINE void cpu_pause(void) { YieldProcessor(); }
#else
INLINE int64_t atomic_add(int64_t *word, int64_t n)
{
    return __atomic_add_fetch(word, n, __ATOMIC_SEQ_CST);
}
INLINE int64_t atomic_load(int64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
/* Leave a core's units to its other hardware thread, which may be the one that is waited for. */
INLINE void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
#endif

#if defined(__linux__)
/* The half of a counter that changes. */
static int32_t *futex_of(int64_t *counter)
{
    return (int32_t *)counter + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

static void sleep_while(int64_t *counter, int64_t value)
{
    syscall(SYS_futex, futex_of(counter), FUTEX_WAIT_PRIVATE, (int32_t)value, NULL, NULL, 0);
}

static void wake_all(int64_t *counter)
{
    syscall(SYS_futex, futex_of(counter), FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
#else
/* Where there is no futex, a sleeper looks again after a while. */
static void sleep_while(int64_t *counter, int64_t value)
{
    (void)counter, (void)value;
#if defined(_MSC_VER)
    Sleep(1);
#else
    const struct timespec pause = {0, 50000};
    nanosleep(&pause, NULL);
#endif
}

static void wake_all(int64_t *counter) { (void)counter; }
#endif

/* Wait until the counter has reached a value. */
static void wait_for(int64_t *barrier, int64_t value)
{
    int64_t seen = atomic_load(barrier);
    for (int64_t spins = barrier[SPINS]; seen < value && spins > 0; spins--) {
        cpu_pause();
        seen = atomic_load(barrier);
    }
    if (seen >= value)
        return;
    atomic_add(barrier + SLEEPERS, 1);
    while ((seen = atomic_load(barrier)) < value)
        sleep_while(barrier, seen);
    atomic_add(barrier + SLEEPERS, -1);
}

/* Wait until ``n_threads`` have reached barrier number ``phase``, counted from 1. */
INLINE void arrive_and_wait(int64_t *barrier, int64_t phase, int64_t n_threads)
{
    if (atomic_add(barrier, 1) < phase * n_threads)
        wait_for(barrier, phase * n_threads);
    else if (atomic_load(barrier + SLEEPERS) > 0)
        wake_all(barrier);
}

#endif
