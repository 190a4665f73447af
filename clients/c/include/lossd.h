/* lossd.h: the C client of lossd, a daemon that evaluates activation and loss functions and their gradients
 * with PyTorch's exact semantics.
 *
 *     lossd_error error;
 *     lossd_client *client = lossd_client_new(NULL, &error);        // $LOSSD_ADDRESS, else the system's socket
 *     lossd_call *call = lossd_call_new(client, "cross_entropy");
 *     lossd_call_input(call, "input", LOSSD_FLOAT32, 2, (int64_t[]){64, 10}, logits);
 *     lossd_call_input(call, "target", LOSSD_INT64, 1, (int64_t[]){64}, labels);
 *     lossd_call_set_double(call, "label_smoothing", 0.1);
 *     lossd_call_output(call, "loss", &loss, sizeof loss);
 *     lossd_call_output(call, "grad.input", gradient, sizeof gradient);
 *     if (lossd_call_run(call, &error) != LOSSD_OK) fprintf(stderr, "%s\n", error.text);
 *
 * cc program.c $(pkg-config --cflags --libs lossd)
 *
 * Names of functions, inputs, attributes and outputs are torch.nn.functional's; the daemon's docs/functions.md
 * has them. Tensors are row-major, little-endian, without strides.
 *
 * THREADS. A client, its calls and its streams belong to one thread at a time; lossd_client_interrupt alone may
 * be called from others and from signal handlers. Different clients have nothing in common: there is no global
 * state, no thread is started, no signal is raised (a vanished daemon is an error, not SIGPIPE) or handled.
 * After fork() a child may go on with a client: it connects anew, and what was under way is the parent's.
 *
 * MEMORY. Tensors are borrowed: inputs are written to the socket from where they lie, results are read from it to
 * where they shall go. Between submit and wait (send and next, for a stream) inputs must stay as they are and
 * results are undefined. Freeing a call or a stream, or an error, ends that loan at once.
 * On a Unix socket, inputs of 192 KiB and more, and their results, go through memory that the daemon maps too:
 * copying them there once costs less than a socket does. What lies in memory of lossd_client_alloc is read and
 * written by the daemon right there, and is not copied at all, where a call's inputs have 96 KiB or more; smaller ones
 * are quicker by the socket.
 *
 * CONNECTING. A client connects when it is first used, and again when the connection has gone. A call that the
 * daemon says it never began (it is being restarted) goes to the next daemon at the same address, for as long
 * as lossd_client_set_connect_timeout says. What was under way when a connection broke is LOSSD_UNAVAILABLE.
 * Answers wait in the daemon while nobody calls this library, and the daemon closes a connection from which
 * nothing has been taken for its `limits.write_timeout` (30 s): wait for what you have submitted.
 *
 * ERRORS. Functions that can fail return a lossd_code and, where `error` is not NULL, say there what was wrong.
 * The setters of a call return nothing: the first one that failed is what submitting the call reports, until the same
 * input, attribute, output or timeout is set right, or the input is taken away. A setter that got NULL for a name, or no
 * memory to say what failed, is reported once. Where there is no memory, constructors return NULL, which every function
 * takes for an object that fails.
 */
#ifndef LOSSD_H
#define LOSSD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LOSSD_API __attribute__((visibility("default")))
#else
#define LOSSD_API
#endif

#define LOSSD_VERSION "0.1.0"

/* The version of the library that is linked, as in LOSSD_VERSION. Any thread. */
LOSSD_API const char *lossd_version(void);

/* ---- Errors ---- */

/* gRPC's codes, by their numbers. */
typedef enum lossd_code {
  LOSSD_OK = 0,
  LOSSD_CANCELLED = 1,          /* lossd_call_cancel, lossd_client_interrupt */
  LOSSD_UNKNOWN = 2,
  LOSSD_INVALID_ARGUMENT = 3,   /* a wrong name, shape, type, attribute or target; a buffer that is too small */
  LOSSD_DEADLINE_EXCEEDED = 4,  /* the call's timeout */
  LOSSD_NOT_FOUND = 5,          /* no such function, no such result */
  LOSSD_ALREADY_EXISTS = 6,
  LOSSD_PERMISSION_DENIED = 7,
  LOSSD_RESOURCE_EXHAUSTED = 8, /* over one of the daemon's limits; no memory here */
  LOSSD_FAILED_PRECONDITION = 9, /* a call that is under way already, a stream that has ended */
  LOSSD_ABORTED = 10,
  LOSSD_OUT_OF_RANGE = 11,
  LOSSD_UNIMPLEMENTED = 12,     /* a gradient that torch has and lossd has not */
  LOSSD_INTERNAL = 13,          /* an answer that breaks the protocol */
  LOSSD_UNAVAILABLE = 14,       /* no daemon, or the connection broke */
  LOSSD_DATA_LOSS = 15,         /* memory of lossd_client_alloc that was lost with its connection */
  LOSSD_UNAUTHENTICATED = 16
} lossd_code;

/* What went wrong. The text is UTF-8, ends with a zero and is cut where it is longer. */
typedef struct lossd_error {
  lossd_code code;
  char text[1020];
} lossd_error;

/* The code's name in gRPC: "INVALID_ARGUMENT". Any thread. */
LOSSD_API const char *lossd_code_name(lossd_code code);

/* ---- Tensors ---- */

typedef enum lossd_type {
  LOSSD_FLOAT32 = 1,
  LOSSD_FLOAT64 = 2,
  LOSSD_FLOAT16 = 3,  /* IEEE 754 binary16 */
  LOSSD_BFLOAT16 = 4, /* the upper half of a float32 */
  LOSSD_INT64 = 5,
  LOSSD_INT32 = 6,
  LOSSD_INT16 = 7,
  LOSSD_INT8 = 8,
  LOSSD_UINT8 = 9,
  LOSSD_BOOL = 10     /* one byte, 0 or 1 */
} lossd_type;

/* Dimensions that a tensor may have. */
#define LOSSD_RANK_MAX 64

/* Bytes of one element; 0 for what is no type. Any thread. */
LOSSD_API size_t lossd_type_size(lossd_type type);

/* A result. `shape` and, where the call gave no memory, `data` are the call's: valid until it is submitted
 * again, changed or freed. A scalar has rank 0. */
typedef struct lossd_tensor {
  lossd_type type;
  size_t rank;
  const int64_t *shape;
  const void *data; /* 64-byte aligned where it is the library's */
  size_t bytes;
} lossd_tensor;

/* ---- Clients ---- */

typedef struct lossd_client lossd_client;

/* A client of the daemon at `address`: "unix:PATH", "tcp:HOST", "tcp:HOST:PORT" or "tcp:[IPV6]:PORT". NULL or
 * "": what $LOSSD_ADDRESS says, else unix:/run/lossd/lossd.sock. Nothing is connected yet. NULL on a malformed
 * address (INVALID_ARGUMENT) or without memory or descriptors (RESOURCE_EXHAUSTED). */
LOSSD_API lossd_client *lossd_client_new(const char *address, lossd_error *error);

/* Ends the client. Its calls under way end with CANCELLED; calls and streams are still to be freed, before or
 * after. */
LOSSD_API void lossd_client_free(lossd_client *client);

/* How long connecting and the daemon's first word may take, and how long a daemon that is being restarted is
 * waited for, in microseconds. 10 s at first. */
LOSSD_API void lossd_client_set_connect_timeout(lossd_client *client, uint64_t timeout_us);

/* The largest payload that the daemon may send, bytes: larger results are RESOURCE_EXHAUSTED. Counts from the
 * next connection on. 0, as at first: as large as frames can be, 4 GiB. */
LOSSD_API void lossd_client_set_payload_max(lossd_client *client, uint64_t bytes);

/* A round trip, after connecting where that is necessary. `round_trip_us` may be NULL. A timeout of 0 is none,
 * here and everywhere. */
LOSSD_API lossd_code lossd_client_ping(lossd_client *client, uint64_t timeout_us, uint64_t *round_trip_us,
                                       lossd_error *error);

/* Writes what has been submitted, as far as the daemon takes it, and reads what has come, without waiting. To
 * be called now and then by who computes a long time between submit and wait. */
LOSSD_API void lossd_client_flush(lossd_client *client);

/* Memory for tensors, of at least so many bytes, zeroed, at a multiple of 4096: inputs and results that lie in it, at
 * multiples of 64 from its beginning, cross no socket and are not copied, as long as the connection lasts that there is
 * now (it is made where there is none). After that they are copied with each call, and so are those in ordinary memory, which
 * it is over TCP and where the daemon gives none. A result's place should have its exact size; where it has not, the
 * result comes by the socket. NULL where there is no memory.
 * What lies there stays when the connection ends, provided that this library is called, as by lossd_client_flush, within the
 * daemon's `limits.region_grace` (10 s) of a daemon's ending it while it lives on (`limits.idle_timeout`, or answers that
 * are not taken). Else it is lost: it reads as zeros, and calls with it, and results in it, are LOSSD_DATA_LOSS.
 * A child has the memory as long as its parent's connection has it, or from its first use of the client on its own copy. */
LOSSD_API void *lossd_client_alloc(lossd_client *client, size_t bytes);

/* Gives it back, NULL or not, when no call uses it any more; else it goes with the client and its last call. */
LOSSD_API void lossd_client_dealloc(lossd_client *client, void *memory);

/* Calls whose inputs have fewer bytes than this go by the socket, than half of it where one lies in memory of
 * lossd_client_alloc. 192 KiB at first; SIZE_MAX: all do. */
LOSSD_API void lossd_client_set_shared_min(lossd_client *client, size_t bytes);

/* Any thread, and signal handlers. The call that is waited for, or the next one that would be, ends with
 * CANCELLED. */
LOSSD_API void lossd_client_interrupt(lossd_client *client);

/* ---- Calls ---- */

/* One evaluation: what to evaluate, and afterwards what it came to. It can be changed and run again any number
 * of times, and is quickest when types and shapes stay the same. */
typedef struct lossd_call lossd_call;

/* A call of a function. For a stream's batches `function` is NULL. */
LOSSD_API lossd_call *lossd_call_new(lossd_client *client, const char *function);

/* At any time. A call under way is cancelled and not waited for. */
LOSSD_API void lossd_call_free(lossd_call *call);

/* Gives an input, or another tensor for one that was given before. `shape` has `rank` sizes and is copied;
 * `data` is borrowed. NULL `shape` takes the input away again. */
LOSSD_API void lossd_call_input(lossd_call *call, const char *name, lossd_type type, size_t rank,
                                const int64_t *shape, const void *data);

/* Gives an attribute. An int is taken where the function has a double; nothing else converts. */
LOSSD_API void lossd_call_set_bool(lossd_call *call, const char *name, int value);
LOSSD_API void lossd_call_set_int(lossd_call *call, const char *name, int64_t value);
LOSSD_API void lossd_call_set_double(lossd_call *call, const char *name, double value);
LOSSD_API void lossd_call_set_string(lossd_call *call, const char *name, const char *value);

/* Asks for a result: "loss", "output", "grad.input" ... It is written to the `size` bytes at `buffer`, which it
 * may leave partly unused; NULL: to memory of the call. Without any output the function's own result comes. */
LOSSD_API void lossd_call_output(lossd_call *call, const char *name, void *buffer, size_t size);

/* From submitting to the answer, microseconds. */
LOSSD_API void lossd_call_set_timeout(lossd_call *call, uint64_t timeout_us);

/* Submits the call and waits for it. */
LOSSD_API lossd_code lossd_call_run(lossd_call *call, lossd_error *error);

/* Begins the call without waiting: any number may be under way at once (the daemon takes `limits.streams` of
 * them at a time, this library 512, the others wait). When none was, it is sent at once; else together with
 * what is submitted after it, at the latest with the next wait or flush. */
LOSSD_API lossd_code lossd_call_submit(lossd_call *call, lossd_error *error);

/* Waits for the call, in any order; returns how it ended, also when asked again. */
LOSSD_API lossd_code lossd_call_wait(lossd_call *call, lossd_error *error);

/* Whether `wait` would return at once. It does not look at the socket: lossd_client_flush does. */
LOSSD_API int lossd_call_is_done(const lossd_call *call);

/* Asks the daemon to stop. `wait` then returns CANCELLED, or how the call had ended before. */
LOSSD_API void lossd_call_cancel(lossd_call *call);

/* A result of a call that ended well; `name` NULL: its first. NOT_FOUND when there is none. */
LOSSD_API lossd_code lossd_call_result(const lossd_call *call, const char *name, lossd_tensor *tensor,
                                       lossd_error *error);

/* The same for a result of one element of a floating type, widened exactly. */
LOSSD_API lossd_code lossd_call_result_double(const lossd_call *call, const char *name, double *value,
                                              lossd_error *error);

/* ---- Streams: a data set in batches, and the exact loss of all of it ---- */

typedef struct lossd_stream lossd_stream;

/* What a stream came to. The sums can be added to those of other streams. */
typedef struct lossd_summary {
  uint64_t batches;
  uint64_t rows;
  int has_loss;      /* 0 for reduction=none and for activations */
  double loss;       /* what one call over the whole data set would have returned */
  double loss_sum;   /* NaN where the function has no such sum */
  double weight_sum;
} lossd_summary;

/* Begins a stream. `first` names the function, its attributes, the outputs of every batch and its timeout, that
 * of the whole stream; its inputs are those that stay (`weight`, `pos_weight`), borrowed as long as the stream
 * lives; `first` itself may be changed or freed at once. It is not run. The daemon is asked which inputs stay:
 * NULL where it cannot be reached or has no such function.
 *
 * A daemon that is shut down meanwhile says how far it came; the stream then goes on with the next one at the
 * same address, from the batch after, and tells it what the first one said: every batch counts once, and the last
 * daemon's summary is of all of them. */
LOSSD_API lossd_stream *lossd_stream_new(const lossd_call *first, lossd_error *error);

/* At any time. A stream under way is cancelled, and batches that have not come back are the caller's again. */
LOSSD_API void lossd_stream_free(lossd_stream *stream);

/* Sends a batch: a call without function and attributes, whose inputs are the batch's and whose outputs, if it
 * has any, say where those go. Inputs that stay may be among them, and count from this batch on. Waits while
 * the daemon takes no more. The batch is the stream's until `next` gives it back, and memory is bounded by how
 * many there are: two keep a daemon busy, eight a slow network. */
LOSSD_API lossd_code lossd_stream_send(lossd_stream *stream, lossd_call *batch, lossd_error *error);

/* Waits for the oldest batch's results and gives it back. After the last, once `finish` has been called, gives
 * NULL: the summary is there. FAILED_PRECONDITION when nothing is under way and more may be sent. A batch that
 * the daemon refuses ends the stream, after those before it; the text names its number, counted from 0. */
LOSSD_API lossd_code lossd_stream_next(lossd_stream *stream, lossd_call **batch, lossd_error *error);

/* No more batches. Does not wait. */
LOSSD_API lossd_code lossd_stream_finish(lossd_stream *stream, lossd_error *error);

/* FAILED_PRECONDITION before `next` has given NULL. */
LOSSD_API lossd_code lossd_stream_summary(const lossd_stream *stream, lossd_summary *summary, lossd_error *error);

#ifdef __cplusplus
}
#endif

#endif
