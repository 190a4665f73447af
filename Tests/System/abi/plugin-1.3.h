/* plugin.h: how a loss or activation function is added to lossd.
 *
 * One header, no dependency, C99 and C++. docs/plugins.md explains it with a complete plugin; plugin.hpp
 * (C++) and LossdPluginKit (Swift) write most of one, and math.h has exp, log and others that vectorise.
 *
 * A plugin is a shared library that exports one symbol, lossd_plugin_entry. That returns a
 * lossd_plugin, which lists lossd_functions. A function is four steps: plan, run, merge, finish. The
 * host (the daemon, a worker process of it, or lossctl) checks what a client sent against the
 * declarations, asks `plan` for the shapes of the results and for the amount of work, cuts the work
 * into chunks, gives the chunks to threads, adds the chunks' sums up in order, and asks `finish` for
 * the reduced results.
 *
 * Rules
 * - Ownership: the plugin owns nothing that the host gave it, and the host frees nothing that the
 *   plugin made. Everything reachable from a lossd_plugin stays unchanged until `stop` returned (or,
 *   without one, until the library is closed). Whatever a callback receives is borrowed for that call
 *   of it: keep no pointer, but for the lossd_host, which stays valid until `stop` returned.
 * - Threads: each callback says where it is called. [main]: the loading thread, one call at a time.
 *   [any]: any thread, also several at once, for different calls or different chunks.
 * - Callbacks do not block, sleep, fork, do I/O, start threads, or change signal handlers, the locale,
 *   the working directory or the floating-point mode. No C++ exception and no longjmp leaves a callback.
 * - Errors: a callback returns LOSSD_OK or another code, and says why in the lossd_error. The text
 *   names the input, what it was and what was expected: `target[3] is 17, outside [0, 10)`. The
 *   host puts the function's name in front of it. Nothing a client sends may abort the process.
 * - Memory: everything a call needs beyond its tensors is asked for in `plan`: state (what plan found
 *   out, read by run), workspace (shared by all chunks of all passes: what one pass leaves for the
 *   next) and scratch (one for each chunk that runs, nothing of it survives). The host takes them from
 *   its pools and counts them against its limits, which is why a plugin should not call malloc in run.
 *   Tensors' data, workspace, scratch and state begin at multiples of 64 bytes.
 *
 * Versions and sizes
 * - The major number of plugin and host must be equal; a plugin's minor number may be at most the
 *   host's. An older plugin works with every newer host of its major number.
 * - A struct that begins with struct_size may grow at its end with a minor version. Its maker sets
 *   struct_size to the sizeof it was compiled with; a reader uses no field beyond it: see LOSSD_HAS.
 * - Every other struct keeps its size for as long as the major number. What is `reserved` is 0 and may
 *   get a meaning with a minor version, in which 0 means what it meant before.
 * - Plugins are for 64-bit little-endian machines. Layouts are the C compiler's natural ones.
 */
#ifndef LOSSD_PLUGIN_H
#define LOSSD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOSSD_ABI_MAJOR 1
#define LOSSD_ABI_MINOR 3

/* Whether a struct that begins with struct_size is long enough to have a field: to be asked before use of
 * a field that came with a minor version after 1.0. Fields of 1.0 are always there.
 *
 *     if (LOSSD_HAS(lossd_host, host, a_later_field)) ... */
#define LOSSD_HAS(type, pointer, field) \
  ((pointer)->struct_size >= offsetof(type, field) + sizeof((pointer)->field))

/* The most there can be of each. The host refuses a plugin that declares more. */
#define LOSSD_RANK_MAX 64
#define LOSSD_INPUTS_MAX 32
#define LOSSD_OUTPUTS_MAX 32
#define LOSSD_ATTRIBUTES_MAX 32
#define LOSSD_ACCUMULATORS_MAX 16
#define LOSSD_VALUES_MAX 16
#define LOSSD_PASSES_MAX 8
#define LOSSD_STATE_BYTES_MAX 4096

/* Status codes: gRPC's numbers. A plugin uses these; the host takes an unknown one for INTERNAL.
 * INVALID_ARGUMENT: what the client sent cannot be evaluated. FAILED_PRECONDITION: something about this
 * machine or daemon is missing. UNIMPLEMENTED: a combination that the plugin does not do. */
#define LOSSD_OK 0
#define LOSSD_INVALID_ARGUMENT 3
#define LOSSD_RESOURCE_EXHAUSTED 8
#define LOSSD_FAILED_PRECONDITION 9
#define LOSSD_UNIMPLEMENTED 12
#define LOSSD_INTERNAL 13

/* Data types: the wire's numbers. LOSSD_ABSENT: an optional input that was not sent, or an output
 * that nobody asked for. float16 and bfloat16 are their 16 bits; a bool is one byte, 0 or 1. */
#define LOSSD_ABSENT 0
#define LOSSD_FLOAT32 1
#define LOSSD_FLOAT64 2
#define LOSSD_FLOAT16 3
#define LOSSD_BFLOAT16 4
#define LOSSD_INT64 5
#define LOSSD_INT32 6
#define LOSSD_INT16 7
#define LOSSD_INT8 8
#define LOSSD_UINT8 9
#define LOSSD_BOOL 10

/* A set of data types is the bitwise or of these. */
#define LOSSD_TYPE_BIT(data_type) (1u << (data_type))
#define LOSSD_FLOATING_TYPES                                                                       \
  (LOSSD_TYPE_BIT(LOSSD_FLOAT32) | LOSSD_TYPE_BIT(LOSSD_FLOAT64) | LOSSD_TYPE_BIT(LOSSD_FLOAT16) | \
   LOSSD_TYPE_BIT(LOSSD_BFLOAT16))
#define LOSSD_INTEGER_TYPES                                                                   \
  (LOSSD_TYPE_BIT(LOSSD_INT64) | LOSSD_TYPE_BIT(LOSSD_INT32) | LOSSD_TYPE_BIT(LOSSD_INT16) | \
   LOSSD_TYPE_BIT(LOSSD_INT8) | LOSSD_TYPE_BIT(LOSSD_UINT8))

/* A tensor: row-major, little-endian, without strides. Inputs are read-only whatever `data` says (in a
 * worker process a write to one is a crash); the inputs of a call may overlap one another. Where an input
 * is in shared memory its client can change it at any time: read an index once, check it, then use it. */
typedef struct lossd_tensor {
  void *data;            /* 64-byte-aligned; NULL or anything when element_count is 0, or while planning */
  const int64_t *shape;  /* `rank` dimensions, each at least 0 */
  int64_t element_count; /* their product; 1 for a scalar */
  uint32_t rank;         /* at most LOSSD_RANK_MAX; 0 for a scalar */
  uint32_t data_type;    /* LOSSD_ABSENT: not there, and nothing else of it means anything */
} lossd_tensor;

/* An attribute's value. A client's whole number is taken where a float is declared; nothing else converts. */
#define LOSSD_VALUE_NONE 0
#define LOSSD_VALUE_BOOL 1 /* as.integer, 0 or 1 */
#define LOSSD_VALUE_INT 2
#define LOSSD_VALUE_FLOAT 3
#define LOSSD_VALUE_STRING 4 /* UTF-8, NUL-terminated */

typedef struct lossd_value {
  uint32_t kind;
  uint32_t length; /* bytes of the string, without the NUL */
  union {
    int64_t integer;
    double floating;
    const char *string;
  } as;
} lossd_value;

/* Where a failing callback says why. The host provides it, zeroed, and reads it only when the code is not
 * LOSSD_OK. */
typedef struct lossd_error {
  uint32_t struct_size;
  uint32_t reserved;
  char text[496]; /* UTF-8, NUL-terminated; what is longer is cut by who writes it */
} lossd_error;

/* ---- Declarations ---- */

/* The client must send it. */
#define LOSSD_INPUT_REQUIRED 1u
/* In a stream it is sent once and stays until it is replaced (a class weight, say). */
#define LOSSD_INPUT_KEPT 2u

/* How a data set is cut into batches of rows, row by row along dimension 0, so that all batches together give what
 * one call would. Since 1.2. An input has one of the first three or none. A function none of whose inputs has
 * LOSSD_INPUT_ROWS or LOSSD_INPUT_BROADCAST has no rule: `lossctl eval` never cuts its data sets. An input with none
 * of them goes whole with each batch, or stays where it is LOSSD_INPUT_KEPT. A gradient (grad.X) is had in batches
 * only where input X is cut. */

/* Its dimension 0 is the rows. */
#define LOSSD_INPUT_ROWS 4u
/* It broadcasts, dimensions counted from the last: it is cut where it has as many dimensions as the first input with
 * LOSSD_INPUT_ROWS (without one: as the longest of these) and dimension 0 is not 1; else it goes whole. */
#define LOSSD_INPUT_BROADCAST 8u
/* The upstream gradient: cut where it has dimensions, whole where it is a scalar. A scalar may be float64 whatever
 * the type of the result. */
#define LOSSD_INPUT_UPSTREAM 16u
/* With one dimension it is a single row of classes and no data set, so that nothing is cut. */
#define LOSSD_INPUT_CLASSES 32u

typedef struct lossd_input {
  const char *name; /* torch.nn.functional's where torch has it */
  const char *help; /* one line: what it is, its shape */
  uint32_t data_types;
  uint32_t flags;
  uint64_t reserved[2];
} lossd_input;

/* What a request that names no output gets: one output has it. */
#define LOSSD_OUTPUT_DEFAULT 1u
/* Known by name and refused with UNIMPLEMENTED; `help` says why. */
#define LOSSD_OUTPUT_UNIMPLEMENTED 2u
/* Its dimension 0 is the rows, unless it is a scalar: then it is the function's value of that name. Since 1.2. Only
 * outputs that have it are had in batches. */
#define LOSSD_OUTPUT_ROWS 4u

typedef struct lossd_output {
  const char *name; /* `output` of an activation, `loss` of a loss, `grad.X` with respect to input X */
  const char *help;
  uint32_t flags;
  /* The index of an input whose buffer this output may use when shape and type are equal, or -1. Only
   * where no unit of work reads an element of that input after this output's element at the same
   * place may have been written by another unit or pass, and where nothing else reads it later. */
  int32_t may_overwrite;
  uint64_t reserved[2];
} lossd_output;

#define LOSSD_ATTRIBUTE_REQUIRED 1u
/* An int: the dimension of the first input that is computed along, negative from the last. Where that is dimension 0
 * nothing is cut into batches. Since 1.2. */
#define LOSSD_ATTRIBUTE_DIMENSION 2u
/* A string: `none`, `mean` or `sum`, where a mean is the accumulator loss_sum over the accumulator weight_sum, and its
 * gradient that of the sum with the upstream gradient over weight_sum. Since 1.2. */
#define LOSSD_ATTRIBUTE_REDUCTION 4u

typedef struct lossd_attribute {
  const char *name;
  const char *help;
  uint32_t type; /* LOSSD_VALUE_BOOL .. LOSSD_VALUE_STRING */
  uint32_t flags;
  lossd_value default_value; /* kind LOSSD_VALUE_NONE: absent unless sent */
  lossd_value minimum;       /* inclusive; LOSSD_VALUE_NONE: no bound. NaN is never within bounds */
  lossd_value maximum;
  const char *const *choices; /* for a string: NULL-terminated list of what it may be; or NULL */
  uint64_t reserved[2];
} lossd_attribute;

/* ---- A call ---- */

typedef struct lossd_host lossd_host;
typedef struct lossd_function lossd_function;

/* One evaluation. The arrays are in the order of the declarations. The host has checked that required
 * inputs and attributes are there, data types are in the declared sets, attributes have their declared
 * types and ranges, a bool tensor's bytes are 0 or 1. Shapes, and values of tensors, are the plugin's to
 * check. In plan nothing of `workspace` and `totals` is there, and no data of outputs. */
typedef struct lossd_call {
  uint32_t struct_size;
  uint32_t reserved;
  const lossd_host *host;
  const lossd_function *function;
  const lossd_tensor *inputs;
  lossd_tensor *outputs;         /* after plan: wanted ones have type, shape and data */
  const lossd_value *attributes; /* checked against the declarations, defaults filled in */
  uint64_t wanted;               /* bit i: output i is asked for; only then it may be written */
  void *state;                   /* function->state_bytes, zeroed; plan writes it, run only reads it */
  void *workspace;               /* plan->workspace_bytes, uninitialised, shared by all chunks: one chunk's
                                    writes are seen by the later passes, not by chunks of the same pass */
  const double *totals;          /* the merged accumulator of the passes before this one */
} lossd_call;

/* The host fills it with zeros before any chunk runs, so that run may leave elements unwritten. */
#define LOSSD_PLANNED_ZEROED 1u
/* A scalar that the host itself fills from finish's value `value_index`, rounded once. */
#define LOSSD_PLANNED_REDUCED 2u
/* This time not in the place of the input that may_overwrite names. Since 1.1. */
#define LOSSD_PLANNED_SEPARATE 4u

/* An output's shape and type. A wanted output is filled in by plan, or the call fails. */
typedef struct lossd_planned_output {
  uint32_t data_type;
  uint32_t rank;
  uint32_t flags;
  uint32_t value_index;
  int64_t shape[LOSSD_RANK_MAX];
} lossd_planned_output;

typedef struct lossd_planned_pass {
  int64_t units;       /* independent units of work; the host cuts [0, units) into chunks */
  double unit_cost_ns; /* rough cost of one, nanoseconds: chunks of about 0.4 ms are cut by it, and a call
                          that is cheap as a whole is run at once, by the thread that plans. A unit should
                          take well under a millisecond; elements are better made units of 1024 or so */
} lossd_planned_pass;

/* What plan answers. The host provides it, zeroed. A tensor without elements may have dimensions of nearly
 * 2^63: mind products of them, and plan neither units nor memory where there is nothing to compute. The host
 * refuses more than 2^48 rows, 2^46 bytes of workspace, 2^40 of scratch and a year of work with INTERNAL. */
typedef struct lossd_plan {
  uint32_t struct_size;
  uint32_t pass_count; /* 0: nothing to run */
  int64_t rows;        /* samples in this batch, for statistics and the Summary of a stream; at most 2^48 */
  size_t workspace_bytes; /* once a call */
  size_t scratch_bytes;   /* once a chunk that is running */
  lossd_planned_pass passes[LOSSD_PASSES_MAX];
  lossd_planned_output *outputs; /* the host's array, one for each declared output; fill the wanted */
} lossd_plan;

/* A chunk's accumulators of kind LOSSD_SUM. */
typedef struct lossd_sums lossd_sums;

/* A part of one pass. */
typedef struct lossd_chunk {
  uint32_t struct_size;
  uint32_t pass;
  int64_t begin; /* units begin ..< end */
  int64_t end;
  double *accumulator; /* zeroed; one for each name in function->accumulators: add to it, where it is PLAIN */
  void *scratch;       /* plan->scratch_bytes, uninitialised, this chunk's alone while it runs */
  lossd_sums *sums;    /* for host->add_to_sum. Since 1.3 */
} lossd_chunk;

/* ---- A function ---- */

/* What an accumulator is. Since 1.3; before, all are PLAIN.
 * PLAIN: a float64 of the chunk, added up by the host, or by the function's own merge.
 * SUM: added to by host->add_to_sum alone. The host rounds nothing away of what is added, so that the sum, rounded
 * once, is the same whatever the batches, chunks, threads, machines and the order in which they were merged: where a
 * function adds numbers that do not depend on these (a row's loss, say), its values do not either. */
#define LOSSD_PLAIN 0u
#define LOSSD_SUM 1u

#define LOSSD_KIND_ACTIVATION 1u
#define LOSSD_KIND_LOSS 2u

struct lossd_function {
  uint32_t struct_size;
  uint32_t kind;
  const char *name;    /* [a-z][a-z0-9_.]*, at most 64 bytes; torch.nn.functional's where it has one */
  const char *summary; /* one line */
  const lossd_input *inputs;
  const lossd_output *outputs;
  const lossd_attribute *attributes;
  const char *const *accumulators; /* names of the float64 sums: loss_sum, weight_sum */
  const char *const *values;       /* names of what finish computes: loss */
  uint32_t input_count;
  uint32_t output_count;
  uint32_t attribute_count;
  uint32_t accumulator_count;
  uint32_t value_count;
  uint32_t state_bytes; /* at most LOSSD_STATE_BYTES_MAX */
  void *context;        /* the plugin's own */

  /* [any] Mandatory. Checks the inputs and attributes beyond their declarations, and says what the
   * call will do. Reads shapes, types and attributes only, so that it takes microseconds: values of
   * tensors (targets in range, say) are checked in run. `call->wanted` says which outputs to plan. */
  int32_t (*plan)(const lossd_call *call, lossd_plan *plan, lossd_error *error);

  /* [any] Mandatory where there is a pass. Computes units begin ..< end of one pass: writes their
   * part of the wanted outputs and of the workspace, adds to the chunk's accumulator. The result must
   * depend on neither the thread nor what other chunks of the same pass did: the host may cut the units
   * anywhere, and run the chunks in any order or at once. All chunks of a pass end before the next pass
   * begins. When several chunks fail, the client gets the error of the lowest. */
  int32_t (*run)(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error);

  /* [any] Optional: `into` becomes the sum of both; associative, with all zeros as its neutral
   * element. NULL: the host adds field by field, with compensation. Across chunks, across batches of a
   * stream, across machines. */
  void (*merge)(const lossd_function *function, double *into, const double *from);

  /* [any] Mandatory where there are values. From the attributes and an accumulator to the values;
   * bit i of *present says whether value i exists (reduction=none has no loss). Used for reduced
   * outputs and for the Summary of a stream; the accumulator may be all zeros (no batch at all). */
  int32_t (*finish)(const lossd_function *function, const lossd_value *attributes,
                    const double *accumulator, double *values, uint64_t *present,
                    lossd_error *error);

  /* Optional: LOSSD_PLAIN or LOSSD_SUM for each accumulator; NULL: all are PLAIN. A function with a merge of its own
   * has PLAIN ones alone. Since 1.3. */
  const uint32_t *accumulator_kinds;
};

/* ---- Plugin and host ---- */

#define LOSSD_LOG_DEBUG 0
#define LOSSD_LOG_INFO 1
#define LOSSD_LOG_WARNING 2
#define LOSSD_LOG_ERROR 3

/* What the host offers. */
struct lossd_host {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
  const char *version; /* the daemon's own */

  /* [any] Writes one line, LOSSD_LOG_DEBUG .. LOSSD_LOG_ERROR, to the daemon's log; at most 500 bytes of it
   * are kept, and a host may leave lines out where there are too many. For the people who run the daemon:
   * what a client did wrong belongs into the lossd_error. */
  void (*log)(const lossd_host *host, int32_t level, const char *text);

  /* [any] In run: whether the call was cancelled or ran out of time. A chunk that may take longer
   * than a millisecond should ask now and then, and return any code when it is 1. */
  int32_t (*cancelled)(const lossd_call *call);

  /* [any] In run, of this chunk: adds `count` numbers to the accumulator `index`, which is a SUM. Takes some 5 ns a
   * number. Since 1.3. */
  void (*add_to_sum)(const lossd_chunk *chunk, uint32_t index, const double *values, size_t count);
};

typedef struct lossd_plugin {
  uint32_t struct_size;
  uint16_t abi_major; /* LOSSD_ABI_MAJOR */
  uint16_t abi_minor; /* LOSSD_ABI_MINOR */
  const char *name;   /* as a function's name */
  const char *version;
  const lossd_function *const *functions;
  uint32_t function_count;
  uint32_t reserved;

  /* [main] Optional: called once, before any other callback. Not LOSSD_OK: the plugin is refused, and
   * stop is not called. */
  int32_t (*start)(const lossd_host *host, lossd_error *error);

  /* [main] Optional: called once, after every other callback; then the library is closed. What start made,
   * memory and threads, it has to end. */
  void (*stop)(void);
} lossd_plugin;

#if defined(__GNUC__) || defined(__clang__)
#define LOSSD_EXPORT __attribute__((visibility("default")))
#else
#define LOSSD_EXPORT
#endif

/* [main] The one symbol of a plugin. NULL: it cannot work with this host; it has logged why. */
LOSSD_EXPORT const lossd_plugin *lossd_plugin_entry(const lossd_host *host);

#ifdef __cplusplus
}
#endif
#endif
