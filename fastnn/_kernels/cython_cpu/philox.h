/* Ten rounds of Philox4x32, on numbers below 2³² in 64 bits: as vectors these multiply in one
 * instruction. */

#ifndef FASTNN_PHILOX_H
#define FASTNN_PHILOX_H

#include "machine.h"

typedef struct {
    uint64_t w0, w1, w2, w3;
} Words;

INLINE Words philox4x32(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint64_t k0,
                        uint64_t k1)
{
#if defined(__GNUC__)
#pragma GCC unroll 10
#endif
    for (int i = 0; i < 10; i++) {
        const uint64_t p0 = (c0 & 0xFFFFFFFFu) * 0xD2511F53u, p1 = (c2 & 0xFFFFFFFFu) * 0xCD9E8D57u;
        const uint64_t n0 = (p1 >> 32) ^ c1 ^ k0, n2 = (p0 >> 32) ^ c3 ^ k1;
        c1 = p1 & 0xFFFFFFFFu;
        c3 = p0 & 0xFFFFFFFFu;
        c0 = n0;
        c2 = n2;
        k0 = (k0 + 0x9E3779B9u) & 0xFFFFFFFFu;
        k1 = (k1 + 0xBB67AE85u) & 0xFFFFFFFFu;
    }
    return (Words){c0, c1, c2, c3};
}

#endif
