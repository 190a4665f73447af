/* What the parts of the module share: see module.c. */
#ifndef LOSSD_PYTHON_MODULE_H
#define LOSSD_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "call.h"

/* What lossd._driver gave to `setup`, for the life of the process. */
struct given {
  PyObject *ndarray;         /* numpy's class */
  PyObject *dtypes;          /* a tuple: numpy's data type by lossd_type */
  PyObject *bfloat16;        /* makes a bfloat16 array of one of its bits */
  PyObject *error;           /* the exception of a code and a text */
  PyObject *lossd_error;     /* the class LossdError */
};
extern struct given given;

/* Memory of the results of a call, as a buffer that numpy's arrays share. */
extern PyObject *memory_type;
int memory_setup(void);
/* Takes memory of malloc over, also where it fails. */
PyObject *memory_new(void *base, size_t bytes);
void *memory_base(PyObject *memory);
size_t memory_bytes(PyObject *memory);

/* ---- Inputs and attributes, from Python's objects ---- */

/* Arrays whose memory a call borrows. */
struct loans {
  Py_buffer *buffers;
  Py_ssize_t count;
};
void loans_end(struct loans *loans);

/* 1: the call has it all; 0: the objects are not what this takes, the caller is to make them plain; -1: an exception.
 * `inputs`: a dict of C-contiguous numpy arrays, or (array, name of its type), or None; fewer than `below` bytes in
 * all.
 * `attributes`: None, or a dict of bools, ints, floats and strings. `outputs`: a string, a list or tuple of them. */
int fill_call(lossd_call *call, PyObject *inputs, PyObject *attributes, PyObject *outputs, size_t below,
              struct loans *loans);
/* The same for a call that was made for such arguments before, whose message is kept; 0: it was made for others, and
 * is to be given up. */
int refill_call(lossd_call *call, PyObject *inputs, PyObject *attributes, PyObject *outputs, size_t below,
                struct loans *loans);
/* UTF-8 without a zero inside; NULL: it is none, no exception. */
const char *plain_text(PyObject *object);

/* ---- Results ---- */

/* An array of the result, which gives its memory away; `memory`, where not NULL, gets a new reference to that. */
PyObject *array_of(struct result *result, PyObject **memory);
/* The results by name. */
PyObject *results_of(lossd_call *call);

#endif
