/* What the parts of the module share: see module.c. */
#ifndef LOSSD_PYTHON_MODULE_H
#define LOSSD_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "driver.h"

/* What lossd._driver gave to `setup`, for the life of the process. */
struct given {
  PyObject *ndarray;     /* numpy's class */
  PyObject *dtypes;      /* a tuple: numpy's data type by lossd_type */
  PyObject *bfloat16;    /* makes a bfloat16 array of one of its bits */
  PyObject *error;       /* the exception of a code, a text, whether the client was closed, and a Status or None */
  PyObject *lossd_error; /* the class LossdError */
};
extern struct given given;

/* Calls that have ended well, to be used again by ones that are made of the same: their messages are kept. */
#define SPARE_FUNCTIONS 16
#define SPARES 64

struct spares {
  lossd_call *calls[SPARES];
  size_t count;
};

struct driver_object {
  PyObject_HEAD
  struct driver *driver;
  char *name;
  PyObject *connect;
  struct spares spares[SPARE_FUNCTIONS]; /* by where the function's name lies, which most callers' does in one place */
};

PyObject *type_of(const char *name, int size, newfunc make, destructor end, PyMethodDef *methods, PyType_Slot buffer);
/* For a type whose objects come of others' methods alone. */
PyObject *make_nothing(PyTypeObject *type, PyObject *arguments, PyObject *options);

/* What takes long lets other threads of the interpreter in meanwhile. */
extern __thread int has_let_go;
#define LET_GO            \
  has_let_go = 1;         \
  Py_BEGIN_ALLOW_THREADS
#define TAKE_BACK         \
  Py_END_ALLOW_THREADS    \
  has_let_go = 0;

/* ---- Errors: each raises and gives NULL ---- */

/* `status`: the daemon's own, which has metadata too; NULL, or empty: there is none. */
PyObject *raise_code(const struct driver *driver, lossd_code code, const char *text, const struct bytes *status);
PyObject *raise_forked(const struct driver *driver);
PyObject *raise_busy(const struct driver *driver);

/* ---- Waiting: -1 is an exception, such as KeyboardInterrupt ---- */

int wait_until(struct driver_object *owner, driver_condition is_over, const void *subject);
/* After something has begun: connects, where threads wait and the core asks for that. */
int connect_where_wanted(struct driver_object *owner);

/* ---- Calls, see calls.c ---- */

extern PyObject *call_type;
int calls_setup(PyObject *module);
PyObject *calls_begin(PyObject *driver, PyObject *arguments);
PyObject *calls_prepare(PyObject *driver, PyObject *arguments);
PyObject *calls_part(PyObject *driver, PyObject *arguments);
PyObject *calls_raw(PyObject *driver, PyObject *arguments);
PyObject *calls_ping(PyObject *driver, PyObject *arguments);

/* ---- Streams, see streams.c ---- */

int streams_setup(PyObject *module);
PyObject *streams_begin(PyObject *driver, PyObject *arguments);

/* ---- Memory of results and of `empty`, as a buffer that numpy's arrays share: see memory_object.c ---- */

int memory_setup(PyObject *module);
/* Takes memory of malloc over, also where it fails. */
PyObject *memory_new(void *base, size_t bytes);
/* The same for a segment that is the caller's. Its first `bytes` are shown; 0: all, once it is there. */
PyObject *memory_of_segment(struct driver_object *owner, struct segment *segment, size_t bytes);
void *memory_base(PyObject *memory);
size_t memory_bytes(PyObject *memory);
PyObject *memory_share(PyObject *driver, PyObject *arguments);

/* ---- Inputs and attributes, from Python's objects: see convert.c ---- */

/* Arrays whose memory a call borrows. */
struct loans {
  Py_buffer *buffers;
  Py_ssize_t count;
  size_t bytes;
};
void loans_end(struct loans *loans);

/* 1: the call has it all; 0: the objects are not what this takes, the caller is to make them plain; -1: an exception.
 * `inputs`: a dict of C-contiguous numpy arrays, or (array, name of its type), or None.
 * `attributes`: None, or a dict of bools, ints, floats and strings. `outputs`: a string, a list or tuple of them. */
int fill_call(lossd_call *call, PyObject *inputs, PyObject *attributes, PyObject *outputs, struct loans *loans);
/* The same for a call that was made for such arguments before, whose message is kept; 0: it was made for others, and
 * is to be given up. */
int refill_call(lossd_call *call, PyObject *inputs, PyObject *attributes, PyObject *outputs, struct loans *loans);
/* UTF-8 without a zero inside; NULL: it is none, no exception. */
const char *plain_text(PyObject *object);

/* ---- Results ---- */

/* An array of the result, which gives its memory away; `memory`, where not NULL, gets a new reference to that. */
PyObject *array_of(struct driver_object *owner, struct result *result, PyObject **memory);
/* The results by name. */
PyObject *results_of(struct driver_object *owner, lossd_call *call);

#endif
