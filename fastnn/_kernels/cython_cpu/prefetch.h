/* Prefetch of the next mini-batch while this one is worked on: its samples are in a random order
   and seldom in cache.

   Requests keep pace with the multiplications of a step. All at once they would exceed what a core
   can have in flight, and stall it. */

#ifndef FASTNN_PREFETCH_H
#define FASTNN_PREFETCH_H

#include "machine.h"

#define CACHE_LINE 64
/* Multiplications a line at most: what is loaded long before its use is evicted again. */
#define PACE 4096
/* Lines requested together. After a call of BLAS more may be due, which are then never requested.
 */
#define AT_ONCE 32

/* What a thread reads of the next mini-batch: part of each sample's features, and its target. */
typedef struct {
    const int64_t *samples;
    int64_t n_samples;
    const char *features, *targets;      /* of sample 0 */
    int64_t feature_bytes, target_bytes; /* from one sample to the next */
    int64_t lines;                       /* of a sample's features, in cache lines */
    int64_t sample, line;                /* the next to request */
    double due, pace;                    /* lines due by now; lines a multiplication */
} PrefetchQueue;

/* Begin with a mini-batch; the current one still takes so many multiplications. */
INLINE void prefetch_begin(PrefetchQueue *queue, const int64_t *samples, int64_t n_samples,
                           double multiplications)
{
    const double lines = (double)(n_samples * (queue->lines + 1)), least = multiplications / PACE;
    queue->samples = samples;
    queue->n_samples = n_samples;
    queue->sample = queue->line = 0;
    queue->pace = (lines > least ? lines : least) / multiplications;
    queue->due = lines - multiplications * queue->pace;
}

/* Request what is due after some more multiplications. */
INLINE void prefetch_advance(PrefetchQueue *queue, int64_t multiplications)
{
    queue->due += queue->pace * (double)multiplications;
    int64_t wanted = (int64_t)queue->due;
    if (wanted <= 0)
        return;
    queue->due -= (double)wanted;
    if (wanted > AT_ONCE)
        wanted = AT_ONCE;
    while (wanted > 0 && queue->sample < queue->n_samples) {
        const int64_t sample = queue->samples[queue->sample], left = queue->lines - queue->line;
        const char *features = queue->features + sample * queue->feature_bytes;
        const char *line = features + queue->line * CACHE_LINE;
        const int64_t now = left < wanted ? left : wanted;
        for (int64_t i = 0; i < now; i++)
            prefetch(line + i * CACHE_LINE);
        queue->line += now;
        wanted -= now;
        if (wanted > 0) {
            prefetch(queue->targets + sample * queue->target_bytes);
            queue->line = 0;
            queue->sample++;
            wanted--;
        }
    }
}

#endif
