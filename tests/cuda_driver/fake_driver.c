/* A CUDA driver without a GPU: the part of libcuda.so.1 that fastnn's driver package calls.

   It runs a stream's work as late as a driver may: when a caller waits for it. So memory that is
   freed or changed too early shows. It runs no kernels; a callback of the test gets their
   parameters. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID = 1,
    NO_MEMORY = 2,
    NO_DEVICE = 100,
    NO_CONTEXT = 201,
    BAD_PTX = 218,
    NOT_FOUND = 500,
    BAD_ADDRESS = 700,
    CAPTURE_UNSUPPORTED = 900
};
#define N_WORDS 512

typedef uint64_t ptr;
typedef void (*callback)(const char *name, int grid, int block, int shared, int cooperative,
                         const ptr *words, int n);
typedef struct { char name[4096]; int n_words; int shared; } function;
typedef enum { COPY, FILL, LAUNCH, RECORD, WAIT } kind;
typedef struct event {
    struct stream *stream;
    long long place;
} event; /* comes when its stream has done `place` operations */
typedef struct op {
    kind what;
    ptr to, from; size_t n; unsigned char value;
    function *f; int grid, block, shared, cooperative; ptr words[N_WORDS];
    struct stream *other; long long place;
    struct op *next;
} op;
typedef struct { op *first, *last; int n; } graph;
typedef struct stream {
    op *first, *last;
    long long given, done;
    graph *captured;
    int broken;
} stream;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t total = 1 << 24, used;
static int fault;  /* sticky, as an illegal address is */
static callback on_launch;
static __thread int depth;      /* of the stack of contexts */
static __thread stream *capturing;
static int context;

/* --- what a test reads and sets --------------------------------------------------------------- */

static struct { char name[64]; int calls, code; } calls[256];

static int number(const char *name) {
    int i = 0;
    while (calls[i].name[0] && strcmp(calls[i].name, name)) i++;
    strcpy(calls[i].name, name);
    return i;
}
int fake_count(const char *name) { return calls[number(name)].calls; }
void fake_fail(const char *name, int code) {
    calls[number(name)].code = code;
} /* the next time it is called */
void fake_memory(size_t bytes) { total = bytes; }
size_t fake_used(void) { return used; }
void fake_on_launch(callback f) { on_launch = f; }

static int counted(const char *name) {
    int i = number(name), code = calls[i].code;
    calls[i].calls++;
    calls[i].code = 0;
    return code;
}
#define CALLED { int code = counted(__func__); if (code) return code; if (fault) return fault; }
#define IN_CONTEXT { CALLED; if (!depth) return NO_CONTEXT; }
#define NOT_CAPTURING                                                                              \
    {                                                                                              \
        IN_CONTEXT;                                                                                \
        if (capturing) {                                                                           \
            capturing->broken = 1;                                                                 \
            return CAPTURE_UNSUPPORTED;                                                            \
        }                                                                                          \
    }

/* --- memory ----------------------------------------------------------------------------------- */

typedef struct block { ptr start; size_t n; int host; struct block *next; } block;
static block *blocks;

static block *holding(ptr p, size_t n) {
    for (block *b = blocks; b; b = b->next) if (b->start <= p && p + n <= b->start + b->n) return b;
    return NULL;
}
static int make(ptr *out, size_t n, int host) {
    if (n == 0) return INVALID;
    if (!host && used + n > total) return NO_MEMORY;
    block *b = malloc(sizeof *b);
    *b = (block){(ptr)malloc(n), n, host, blocks};
    memset((void *)b->start, 0xFF, n);
    blocks = b;
    if (!host) used += n;
    *out = b->start;
    return 0;
}
static int drop(ptr p, int host) {
    for (block **b = &blocks; *b; b = &(*b)->next)
        if ((*b)->start == p && (*b)->host == host) {
            block *gone = *b;
            *b = gone->next;
            if (!host) used -= gone->n;
            memset((void *)gone->start, 0xDD, gone->n);
            free((void *)gone->start);
            free(gone);
            return 0;
        }
    return INVALID;
}
int cuMemAlloc(ptr *p, size_t n) { NOT_CAPTURING; return make(p, n, 0); }
int cuMemFree(ptr p) { NOT_CAPTURING; return drop(p, 0); }
int cuMemHostAlloc(ptr *p, size_t n, unsigned flags) { NOT_CAPTURING; return make(p, n, 1); }
int cuMemFreeHost(ptr p) { NOT_CAPTURING; return drop(p, 1); }
int cuMemGetInfo(size_t *f, size_t *t) { IN_CONTEXT; *f = total - used; *t = total; return 0; }
int cuPointerGetAttribute(int *value, int attribute, ptr p) {
    IN_CONTEXT;
    block *b = holding(p, 1);
    if (attribute != 9 || !b || b->host) return INVALID;
    *value = 0;
    return 0;
}

/* --- running a stream's work ------------------------------------------------------------------ */

static int bad(ptr p, size_t n) { return p && !holding(p, n) ? BAD_ADDRESS : 0; }

static int run_until(stream *s, long long place);

static int run(op *o) {
    switch (o->what) {
    case COPY:
        memcpy((void *)o->to, (void *)o->from, o->n);
        return 0;
    case FILL:
        memset((void *)o->to, o->value, o->n);
        return 0;
    case LAUNCH:
        for (int i = 0; i + 7 <= o->f->n_words; i += 7)
            if (bad(o->words[i + 4], o->words[i + 2] * o->words[i + 3])) return BAD_ADDRESS;
        if (on_launch)
            on_launch(o->f->name, o->grid, o->block, o->shared, o->cooperative, o->words,
                      o->f->n_words);
        return 0;
    case WAIT:
        return run_until(o->other, o->place);
    default:
        return 0;
    }
}
/* Whether device memory, or pinned memory, that an operation is about is still there. */
static int gone(op *o) {
    if (o->what == FILL) return bad(o->to, o->n);
    if (o->what != COPY) return 0;
    return !holding(o->from, o->n) && !holding(o->to, o->n) ? BAD_ADDRESS : 0;
}
static int run_until(stream *s, long long place) {
    while (s->done < place && s->first) {
        op *o = s->first;
        s->first = o->next;
        if (!s->first) s->last = NULL;
        s->done++;
        int code = gone(o);
        if (!code) code = run(o);
        free(o);
        if (code) return fault = code;
    }
    return 0;
}
static void append(op **first, op **last, op *o) {
    op *copy = malloc(sizeof *copy);
    *copy = *o;
    copy->next = NULL;
    if (*last) (*last)->next = copy; else *first = copy;
    *last = copy;
}
static int give(stream *s, op *o) {
    if (s->captured) {
        append(&s->captured->first, &s->captured->last, o);
        s->captured->n++;
        return 0;
    }
    append(&s->first, &s->last, o);
    s->given++;
    return 0;
}
static int finish(stream *s) {
    if (s->captured) { s->broken = 1; return CAPTURE_UNSUPPORTED; }
    pthread_mutex_lock(&lock);
    int code = run_until(s, s->given);
    pthread_mutex_unlock(&lock);
    return code;
}

static stream *streams[64];
int cuStreamCreate(stream **s, unsigned flags) {
    IN_CONTEXT;
    *s = calloc(1, sizeof **s);
    int i = 0;
    while (streams[i]) i++;
    streams[i] = *s;
    return 0;
}
int cuStreamSynchronize(stream *s) { IN_CONTEXT; return (ptr)s <= 2 ? 0 : finish(s); }
int cuCtxSynchronize(void) {
    IN_CONTEXT;
    for (int i = 0; streams[i]; i++) { int code = finish(streams[i]); if (code) return code; }
    return 0;
}
int cuMemcpyHtoDAsync(ptr to, ptr from, size_t n, stream *s) {
    IN_CONTEXT;
    if (bad(to, n) || !to) return INVALID;
    return give(s, &(op){.what = COPY, .to = to, .from = from, .n = n});
}
int cuMemcpyDtoHAsync(ptr to, ptr from, size_t n, stream *s) {
    IN_CONTEXT;
    if (bad(from, n) || !from) return INVALID;
    return give(s, &(op){.what = COPY, .to = to, .from = from, .n = n});
}
int cuMemcpyDtoDAsync(ptr to, ptr from, size_t n, stream *s) {
    IN_CONTEXT;
    if (bad(to, n) || bad(from, n) || !to || !from) return INVALID;
    return give(s, &(op){.what = COPY, .to = to, .from = from, .n = n});
}
int cuMemsetD8Async(ptr to, unsigned char value, size_t n, stream *s) {
    IN_CONTEXT;
    if (bad(to, n) || !to) return INVALID;
    return give(s, &(op){.what = FILL, .to = to, .value = value, .n = n});
}

/* --- events ----------------------------------------------------------------------------------- */

int cuEventCreate(event **e, unsigned flags) {
    IN_CONTEXT;
    *e = calloc(1, sizeof **e);
    return flags == 2 ? 0 : INVALID;
}
int cuEventDestroy(event *e) { IN_CONTEXT; free(e); return 0; }
int cuEventRecord(event *e, stream *s) { IN_CONTEXT; *e = (event){s, s->given}; return 0; }
int cuEventSynchronize(event *e) {
    IN_CONTEXT;
    return e->stream ? run_until(e->stream, e->place) : 0;
}
int cuStreamWaitEvent(stream *s, event *e, unsigned flags) {
    IN_CONTEXT;
    return give(s, &(op){.what = WAIT, .other = e->stream, .place = e->place});
}

/* --- kernels ---------------------------------------------------------------------------------- */

int cuModuleLoadDataEx(function **m, const char *ptx, unsigned n, int *options, void **values) {
    NOT_CAPTURING;
    const char *entry = strstr(ptx, ".entry ");
    if (!entry) {
        for (unsigned i = 0; i < n; i++)
            if (options[i] == 5) strcpy(values[i], "ptxas: no entry"); /* ERROR_LOG_BUFFER */
        return BAD_PTX;
    }
    function *f = calloc(1, sizeof *f);
    sscanf(entry, ".entry %4095[^( \n]", f->name);
    for (const char *p = strchr(entry, '('), *end = strchr(entry, ')');
         (p = strstr(p, ".param")) && p < end; p++)
        f->n_words++;
    f->shared = 40 << 10;  /* 8 KB are its own */
    *m = f;
    return 0;
}
int cuModuleGetFunction(function **f, function *m, const char *name) {
    IN_CONTEXT;
    if (strcmp(m->name, name)) return NOT_FOUND;
    *f = m;
    return 0;
}
int cuFuncGetAttribute(int *value, int attribute, function *f) {
    IN_CONTEXT;
    *value = attribute == 0 ? 512 : 8 << 10;  /* MAX_THREADS_PER_BLOCK, SHARED_SIZE_BYTES */
    return attribute == 0 || attribute == 1 ? 0 : INVALID;
}
int cuFuncSetAttribute(function *f, int attribute, int value) {
    IN_CONTEXT;
    if (attribute != 8 || value > 227 << 10) return INVALID;
    f->shared = value;
    return 0;
}
typedef struct { int id; char pad[4]; union { int cooperative; char size[64]; } value; } attribute;
typedef struct {
    unsigned gx, gy, gz, bx, by, bz, shared;
    stream *s;
    attribute *attributes;
    unsigned n_attributes;
} configuration;
int cuLaunchKernelEx(const configuration *c, function *f, ptr **words, void **extra) {
    IN_CONTEXT;
    if (c->gy != 1 || c->gz != 1 || c->by != 1 || c->bz != 1 || (int)c->shared > f->shared ||
        extra || f->n_words > N_WORDS)
        return INVALID;
    op o = {.what = LAUNCH, .f = f, .grid = c->gx, .block = c->bx, .shared = c->shared};
    for (unsigned i = 0; i < c->n_attributes; i++) {
        if (c->attributes[i].id != 2) return INVALID;  /* COOPERATIVE */
        o.cooperative = c->attributes[i].value.cooperative;
    }
    for (int i = 0; i < f->n_words; i++) o.words[i] = *words[i];
    return give(c->s, &o);
}

/* --- graphs ----------------------------------------------------------------------------------- */

int cuStreamBeginCapture(stream *s, int mode) {
    IN_CONTEXT;
    if (mode != 1 || s->captured) return INVALID;  /* THREAD_LOCAL */
    capturing = s;
    s->broken = 0;
    s->captured = calloc(1, sizeof(graph));
    return 0;
}
int cuStreamEndCapture(stream *s, graph **g) {
    IN_CONTEXT;
    *g = s->broken ? NULL : s->captured;
    s->captured = NULL;
    capturing = NULL;
    return s->broken ? 901 : 0;  /* INVALIDATED */
}
static graph *copied(graph *g) {
    graph *copy = calloc(1, sizeof *copy);
    for (op *o = g->first; o; o = o->next) append(&copy->first, &copy->last, o);
    return copy;
}
int cuGraphCreate(graph **g, unsigned flags) { IN_CONTEXT; *g = calloc(1, sizeof **g); return 0; }
int cuGraphAddChildGraphNode(ptr *node, graph *g, const ptr *before, size_t n, graph *child) {
    IN_CONTEXT;
    if (n != (g->n > 0) || (n && before[0] != (ptr)g + g->n))
        return INVALID; /* one after the other, or they would run at once */
    for (op *o = child->first; o; o = o->next) append(&g->first, &g->last, o);
    *node = (ptr)g + ++g->n;
    return 0;
}
int cuGraphInstantiateWithFlags(graph **executable, graph *g, unsigned long long flags) {
    IN_CONTEXT;
    *executable = copied(g);
    return 0;
}
int cuGraphLaunch(graph *executable, stream *s) {
    IN_CONTEXT;
    for (op *o = executable->first; o; o = o->next) give(s, o);
    return 0;
}
int cuGraphDestroy(graph *g) { IN_CONTEXT; free(g); return 0; }
int cuGraphExecDestroy(graph *g) { IN_CONTEXT; free(g); return 0; }

/* --- the device ------------------------------------------------------------------------------- */

static int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) { CALLED; return setting("FAKE_CUDA_INIT", 0); }
int cuDriverGetVersion(int *v) { CALLED; *v = setting("FAKE_CUDA_VERSION", 13000); return 0; }
int cuDeviceGetCount(int *n) { CALLED; *n = setting("FAKE_CUDA_DEVICES", 1); return 0; }
int cuDeviceGet(int *d, int ordinal) { CALLED; *d = ordinal; return ordinal ? INVALID : 0; }
int cuDeviceGetName(char *name, int n, int d) { CALLED; snprintf(name, n, "Fake GPU"); return 0; }
int cuDeviceTotalMem(size_t *n, int d) { CALLED; *n = total; return 0; }
int cuDeviceGetAttribute(int *value, int which, int d) {
    CALLED;
    int capability = setting("FAKE_CUDA_CAPABILITY", 90);
    *value = which == 75   ? capability / 10
             : which == 76 ? capability % 10
             : which == 16 ? 4
             : which == 97 ? 227 << 10
                           : -1;
    return *value < 0 ? INVALID : 0;
}
int cuDevicePrimaryCtxRetain(int **c, int d) { CALLED; *c = &context; return 0; }
int cuCtxGetCurrent(int **c) { CALLED; *c = depth ? &context : NULL; return 0; }
int cuCtxPushCurrent(int *c) { CALLED; depth++; return c == &context ? 0 : INVALID; }
int cuCtxPopCurrent(int **c) { CALLED; depth--; *c = &context; return depth < 0 ? INVALID : 0; }

static const struct { int code; const char *name, *text;
} errors[] = {
    {INVALID, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {NO_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {NO_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {BAD_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {BAD_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
};
static const char *words(int code, int name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return name ? errors[i].name : errors[i].text;
    return NULL;
}
int cuGetErrorName(int code, const char **text) {
    *text = words(code, 1);
    return *text ? 0 : INVALID;
}
int cuGetErrorString(int code, const char **text) {
    *text = words(code, 0);
    return *text ? 0 : INVALID;
}

#define ENTRY(name) {#name, (void *)name}
static const struct { const char *name; void *f;
} entries[] = {
    ENTRY(cuMemAlloc), ENTRY(cuMemFree), ENTRY(cuMemHostAlloc), ENTRY(cuMemFreeHost),
    ENTRY(cuMemGetInfo), ENTRY(cuPointerGetAttribute), ENTRY(cuStreamCreate),
    ENTRY(cuStreamSynchronize), ENTRY(cuCtxSynchronize), ENTRY(cuMemcpyHtoDAsync),
    ENTRY(cuMemcpyDtoHAsync), ENTRY(cuMemcpyDtoDAsync), ENTRY(cuMemsetD8Async),
    ENTRY(cuEventCreate), ENTRY(cuEventDestroy), ENTRY(cuEventRecord), ENTRY(cuEventSynchronize),
    ENTRY(cuStreamWaitEvent), ENTRY(cuModuleLoadDataEx), ENTRY(cuModuleGetFunction),
    ENTRY(cuFuncGetAttribute), ENTRY(cuFuncSetAttribute), ENTRY(cuLaunchKernelEx),
    ENTRY(cuStreamBeginCapture), ENTRY(cuStreamEndCapture), ENTRY(cuGraphCreate),
    ENTRY(cuGraphAddChildGraphNode), ENTRY(cuGraphInstantiateWithFlags), ENTRY(cuGraphLaunch),
    ENTRY(cuGraphDestroy), ENTRY(cuGraphExecDestroy), ENTRY(cuInit), ENTRY(cuDriverGetVersion),
    ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName), ENTRY(cuDeviceTotalMem),
    ENTRY(cuDeviceGetAttribute), ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuCtxGetCurrent),
    ENTRY(cuCtxPushCurrent), ENTRY(cuCtxPopCurrent), ENTRY(cuGetErrorName),
    ENTRY(cuGetErrorString),
};
int cuGetProcAddress_v2(const char *name, void **f, int version, uint64_t flags, int *status) {
    *f = NULL;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (!strcmp(entries[i].name, name)) *f = entries[i].f;
    if (status) *status = *f ? 0 : 1;
    return *f ? 0 : NOT_FOUND;
}
