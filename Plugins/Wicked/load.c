/* Libraries that are wicked before any call: one source, built once for each line of this list with -DLINE
 * (upper case) and -DNAME="line". After each, a host goes on serving all other plugins, and says why in the log
 * and in the reply. What loads answers 4 as the loss of the function `load_LINE`.
 *
 * Loads and answers, but the process must be as before (or as after, for what an unload does):
 *   good                  nothing wrong: to compare with
 *   constructor_mode      its constructor rounds upward and flushes denormals
 *   constructor_signals   its constructor takes SIGTERM and SIGSEGV: put back, or refused
 *   constructor_mask      its constructor blocks all signals in the loading thread
 *   constructor_locale    its constructor sets another locale
 *   constructor_cwd       its constructor goes to /
 *   constructor_thread    its constructor starts a thread that never ends: cannot be unmapped safely
 *   constructor_spins     the same, and the thread computes all the time: a host looks at that
 *   nodelete              linked with -z nodelete: stays mapped after an unload, and that is said
 *   unknown_fields        a minor version newer than this header's struct, of the same version: longer structs
 *   many_functions        1000 functions
 * Refused, FAILED_PRECONDITION, with what is wrong:
 *   entry_null            lossd_plugin_entry returns NULL
 *   no_entry              exports nothing
 *   abi_major             another major version
 *   abi_minor             a newer minor version
 *   plugin_short          lossd_plugin.struct_size too small
 *   function_short        lossd_function.struct_size too small
 *   function_null         a function is NULL
 *   no_functions          has none
 *   clash                 has a function named sigmoid, which is built in
 *   clash_own             has the same function twice
 *   bad_name              a function's name with a space
 *   name_null             a function without a name
 *   too_many_inputs       1000 inputs, of which there are none in memory
 *   no_plan               a function without plan
 *   wrong_bounds          an attribute whose default is of another type
 *   start_fails           start returns a code and a text
 *   undefined             calls a function that nobody defines
 *   needs_swift           needs libswiftCore.so
 *   needs_missing         needs a library that there is not
 *   much_tls              64 MiB of thread-local memory
 *   executable_stack      wants an executable stack: refused, or loaded without any thread's stack changed
 * A crash or a hang of the loading process. Worker: refused with the signal or as timed out; daemon: a line that
 * says that a plugin is being loaded, and the end, after which it starts without that plugin:
 *   constructor_crash     constructor_hang     constructor_exit     constructor_abort
 *   entry_crash           entry_hang           entry_is_data        (the symbol is no function: SIGSEGV)
 *   start_crash           start_hang           resolver_crash       (an ifunc, run while relocating)
 * Crashes or hangs when it is unloaded:
 *   stop_crash            stop_hang            destructor_crash     destructor_hang */
#define _GNU_SOURCE
#include <lossd/plugin.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *volatile nowhere = 0;
static void crash(void) { *(volatile int *)nowhere = 1; }
static void hang(void) {
  for (;;) pause();
}
static void *rest(void *unused) {
#if defined(CONSTRUCTOR_SPINS)
  for (volatile int for_ever = 1; for_ever;) {
  }
#endif
  hang();
  return unused;
}
static void ignore(int number) { (void)number; }

__attribute__((constructor)) static void constructor(void) {
#if defined(CONSTRUCTOR_CRASH)
  crash();
#elif defined(CONSTRUCTOR_HANG)
  hang();
#elif defined(CONSTRUCTOR_EXIT)
  exit(3);
#elif defined(CONSTRUCTOR_ABORT)
  abort();
#elif defined(CONSTRUCTOR_MODE) && defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0xc040);
#elif defined(CONSTRUCTOR_SIGNALS)
  signal(SIGTERM, ignore);
  signal(SIGSEGV, ignore);
#elif defined(CONSTRUCTOR_MASK)
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, 0);
#elif defined(CONSTRUCTOR_LOCALE)
  if (!setlocale(LC_ALL, "de_DE.UTF-8")) setlocale(LC_ALL, "C.UTF-8");
#elif defined(CONSTRUCTOR_CWD)
  if (chdir("/") != 0) crash();
#elif defined(CONSTRUCTOR_THREAD) || defined(CONSTRUCTOR_SPINS)
  pthread_t thread;
  pthread_create(&thread, 0, rest, 0);
#endif
}

__attribute__((destructor)) static void destructor(void) {
#if defined(DESTRUCTOR_CRASH)
  crash();
#elif defined(DESTRUCTOR_HANG)
  hang();
#endif
}

#if defined(RESOLVER_CRASH)
static void (*resolve(void))(void) {
  crash();
  return 0;
}
void resolved(void) __attribute__((ifunc("resolve")));
#endif

#if defined(MUCH_TLS)
__thread char much[64 << 20] __attribute__((tls_model("initial-exec")));
#endif
#if defined(UNDEFINED)
extern void nobody_defines_this(void);
#endif
#if defined(NEEDS_SWIFT) || defined(NEEDS_MISSING)
extern void stub(void);
#endif

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  (void)call, (void)error;
  plan->outputs[0].data_type = LOSSD_FLOAT64;
  plan->outputs[0].flags = LOSSD_PLANNED_REDUCED;
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = 4;
  return LOSSD_OK;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  (void)call, (void)error;
  chunk->accumulator[0] += (double)(chunk->end - chunk->begin);
#if defined(MUCH_TLS)
  much[chunk->begin] = 1;
#elif defined(UNDEFINED)
  nobody_defines_this();
#elif defined(NEEDS_SWIFT) || defined(NEEDS_MISSING)
  stub();
#elif defined(RESOLVER_CRASH)
  resolved();
#endif
  return LOSSD_OK;
}

static int32_t finish(const lossd_function *function, const lossd_value *attributes,
                      const double *sums, double *values, uint64_t *present, lossd_error *error) {
  (void)function, (void)attributes, (void)error;
  values[0] = sums[0];
  *present = 1;
  return LOSSD_OK;
}

static int32_t start(const lossd_host *host, lossd_error *error) {
  (void)host;
#if defined(START_CRASH)
  crash();
#elif defined(START_HANG)
  hang();
#elif defined(START_FAILS)
  strcpy(error->text, "no licence was found");
  return LOSSD_FAILED_PRECONDITION;
#endif
  (void)error;
  return LOSSD_OK;
}

static void stop(void) {
#if defined(STOP_CRASH)
  crash();
#elif defined(STOP_HANG)
  hang();
#endif
}

/* Longer than this header's, as a later one's may be. */
typedef struct long_function {
  lossd_function now;
  uint64_t later[16];
} long_function;

#if defined(MANY_FUNCTIONS)
#define COUNT 1000
#elif defined(CLASH_OWN)
#define COUNT 2
#else
#define COUNT 1
#endif

static const lossd_output outputs[] = {{"loss", "4", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}}};
static const char *const names[] = {"loss_sum"}, *const values[] = {"loss"};
static lossd_attribute attribute;
static char text[COUNT][64];
static long_function made[COUNT];
static const lossd_function *functions[COUNT];
static struct {
  lossd_plugin now;
  uint64_t later[16];
} plugin;

static void make(int index) {
  lossd_function *function = &made[index].now;
  /* load_NAME, load_NAME.1, ... */
  snprintf(text[index], sizeof text[index], "load_%s", NAME);
  if (index) snprintf(text[index], sizeof text[index], "load_%s.%d", NAME, index);
  function->struct_size = sizeof *function;
  function->kind = LOSSD_KIND_LOSS;
  function->name = text[index];
  function->summary = "4";
  function->outputs = outputs;
  function->accumulators = names;
  function->values = values;
  function->output_count = function->accumulator_count = function->value_count = 1;
  function->plan = plan;
  function->run = run;
  function->finish = finish;
#if defined(FUNCTION_SHORT)
  function->struct_size = 64;
#elif defined(CLASH)
  function->name = "sigmoid";
#elif defined(BAD_NAME)
  function->name = "Two words";
#elif defined(NAME_NULL)
  function->name = 0;
#elif defined(TOO_MANY_INPUTS)
  function->input_count = 1000;
  function->inputs = (const lossd_input *)(uintptr_t)16;
#elif defined(NO_PLAN)
  function->plan = 0;
#elif defined(WRONG_BOUNDS)
  attribute.name = attribute.help = "x";
  attribute.type = LOSSD_VALUE_FLOAT;
  attribute.default_value.kind = LOSSD_VALUE_STRING;
  function->attributes = &attribute;
  function->attribute_count = 1;
#elif defined(UNKNOWN_FIELDS)
  function->struct_size = sizeof made[index];
  memset(made[index].later, 0xee, sizeof made[index].later);
#endif
  functions[index] = function;
}

#if defined(ENTRY_IS_DATA)
LOSSD_EXPORT int lossd_plugin_entry_data[4] __asm__("lossd_plugin_entry") = {1, 2, 3, 4};
#define lossd_plugin_entry static_entry
__attribute__((unused)) static
#elif defined(NO_ENTRY)
#define lossd_plugin_entry static_entry
__attribute__((unused)) static
#endif
const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host, (void)crash, (void)hang, (void)rest, (void)ignore, (void)attribute;
#if defined(ENTRY_NULL)
  return 0;
#elif defined(ENTRY_CRASH)
  crash();
#elif defined(ENTRY_HANG)
  hang();
#endif
  for (int i = 0; i < COUNT; i++) make(i);
#if defined(CLASH_OWN)
  functions[1] = functions[0];
#elif defined(FUNCTION_NULL)
  functions[0] = 0;
#endif
  plugin.now.struct_size = sizeof plugin.now;
  plugin.now.abi_major = LOSSD_ABI_MAJOR;
  plugin.now.abi_minor = LOSSD_ABI_MINOR;
  plugin.now.name = "load_" NAME;
  plugin.now.version = "1.0";
  plugin.now.functions = functions;
  plugin.now.function_count = COUNT;
  plugin.now.start = start;
  plugin.now.stop = stop;
#if defined(ABI_MAJOR)
  plugin.now.abi_major += 1;
#elif defined(ABI_MINOR)
  plugin.now.abi_minor += 1;
#elif defined(PLUGIN_SHORT)
  plugin.now.struct_size = 16;
#elif defined(NO_FUNCTIONS)
  plugin.now.function_count = 0;
#elif defined(UNKNOWN_FIELDS)
  plugin.now.struct_size = sizeof plugin;
  memset(plugin.later, 0xee, sizeof plugin.later);
#endif
  return &plugin.now;
}
