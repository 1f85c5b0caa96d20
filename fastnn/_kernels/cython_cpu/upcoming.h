/* The next mini-batch, asked for while this one is worked on: its samples are in a random order and seldom in cache.

   Requests keep pace with the multiplications of a step. All at once they would be more than a processor can have under way, and stall it. */

#ifndef FASTNN_UPCOMING_H
#define FASTNN_UPCOMING_H

#include "machine.h"

#define CACHE_LINE 64
#define PACE 4096    /* multiplications a line at most: what came long before it is used would be gone from the cache again */
#define AT_ONCE 32   /* lines asked for together; after a call of BLAS more may be due, which are then never asked for */

/* What a thread reads of the next mini-batch: a stretch of each sample's features, and its target. */
typedef struct {
    const int64_t *samples;
    int64_t n_samples;
    const char *features, *targets; /* of sample 0 */
    int64_t feature_bytes, target_bytes; /* from one sample to the next */
    int64_t lines; /* of a sample's features, in cache lines */
    int64_t sample, line; /* the next to ask for */
    double due, pace; /* lines to ask for by now; lines a multiplication */
} Upcoming;

/* Begin with a mini-batch; this one still takes so many multiplications. */
INLINE void look_ahead(Upcoming *upcoming, const int64_t *samples, int64_t n_samples, double multiplications)
{
    const double lines = (double)(n_samples * (upcoming->lines + 1)), least = multiplications / PACE;
    upcoming->samples = samples;
    upcoming->n_samples = n_samples;
    upcoming->sample = upcoming->line = 0;
    upcoming->pace = (lines > least ? lines : least) / multiplications;
    upcoming->due = lines - multiplications * upcoming->pace;
}

/* Ask for what is due after some more multiplications. */
INLINE void ask_for(Upcoming *upcoming, int64_t multiplications)
{
    upcoming->due += upcoming->pace * (double)multiplications;
    int64_t wanted = (int64_t)upcoming->due;
    if (wanted <= 0)
        return;
    upcoming->due -= (double)wanted;
    if (wanted > AT_ONCE)
        wanted = AT_ONCE;
    while (wanted > 0 && upcoming->sample < upcoming->n_samples) {
        const int64_t sample = upcoming->samples[upcoming->sample], left = upcoming->lines - upcoming->line;
        const char *line = upcoming->features + sample * upcoming->feature_bytes + upcoming->line * CACHE_LINE;
        const int64_t now = left < wanted ? left : wanted;
        for (int64_t i = 0; i < now; i++)
            prefetch(line + i * CACHE_LINE);
        upcoming->line += now;
        wanted -= now;
        if (wanted > 0) {
            prefetch(upcoming->targets + sample * upcoming->target_bytes);
            upcoming->line = 0;
            upcoming->sample++;
            wanted--;
        }
    }
}

#endif
