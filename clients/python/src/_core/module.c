/* lossd._core: small evaluations over liblossd's core, for lossd._driver. Not for users.
 *
 * Driver(name, connect_timeout_us, connect, tries_unheard): the calls of one client, for any threads.
 *   `connect(seconds)` gives the descriptor of a connected socket, or raises LossdError; None: the driver is an event
 *   loop's, which watches `fileno()`, calls `turn()` when that can be read, after `begin` and after its pause, and
 *   answers a wish to connect by `connected(descriptor)` or `refused(code, text)`.
 * Driver.begin(function, inputs, attributes, outputs, timeout_us, below) and Driver.prepare(...): a Call, begun or not;
 *   None where the arguments are not plain enough or the inputs have `below` bytes or more: see fill_call.
 * Driver.turn(): tokens of calls that have ended (of `begin`'s last argument), whether to connect, and seconds until
 *   the next turn, or None.
 * Driver.close(), Driver.has_forked(), Call.abandon(), Call.wait(), Call.run(), Call.done(), Call.cancel(). */
#include "module.h"

#include <limits.h>
#include <stddef.h>

#include "driver.h"
#include "life.h"

#define SLICE_US 100000 /* a signal that another thread was given is looked for so often */

struct given given;

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

/* A result of a prepared call, whose memory the next run's goes to. */
struct kept {
  PyObject *memory;
  lossd_type type;
  size_t rank;
  int64_t shape[LOSSD_RANK_MAX];
};

struct call_object {
  PyObject_HEAD
  struct driver_object *owner;
  lossd_call *call;
  struct spares *place; /* where it goes when it has ended; NULL: nowhere */
  struct loans loans; /* of a prepared call as long as it lives, else until it has ended */
  int is_prepared;
  int is_busy; /* a thread runs it, or makes its results, which may let other threads of the interpreter in */
  PyObject *results; /* `wait` has given: a dict; `run`: a tuple, in the order of the outputs */
  struct kept *kept; /* as many as the results that `run` gave; NULL: none yet */
  size_t kept_count;
};

static PyObject *driver_type, *call_type;

/* ---- Errors ---- */

/* Raises; NULL. */
static PyObject *raise_code(const struct driver *driver, lossd_code code, const char *text) {
  int is_closed = driver->is_closed && !driver_has_forked(driver) && code == LOSSD_UNAVAILABLE;
  PyObject *error = PyObject_CallFunction(given.error, "isi", (int)code, text, is_closed);
  if (error != NULL) {
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
  }
  return NULL;
}

static PyObject *raise_forked(const struct driver *driver) {
  return raise_code(driver, LOSSD_UNAVAILABLE, "the process has forked: the call is its parent's");
}

static PyObject *raise_busy(const struct driver *driver) {
  return raise_code(driver, LOSSD_FAILED_PRECONDITION, "another thread has the call");
}

/* ---- Connecting ---- */

/* What `connect` raised as the core's refusal; -1: it is the caller's to see. */
static int refuse(struct driver *driver) {
  PyObject *type, *error, *trace, *code = NULL, *message = NULL;
  PyErr_Fetch(&type, &error, &trace);
  PyErr_NormalizeException(&type, &error, &trace);
  if (error != NULL && PyObject_IsInstance(error, given.lossd_error) == 1) {
    code = PyObject_GetAttrString(error, "code");
    message = code == NULL ? NULL : PyObject_GetAttrString(error, "message");
  }
  PyErr_Clear();
  const char *text = message == NULL ? NULL : plain_text(message);
  long number = code == NULL ? -1 : PyLong_AsLong(code);
  PyErr_Clear();
  int is_told = text != NULL && number > 0 && number <= 16 && number != LOSSD_CANCELLED;
  driver_refused(driver, is_told ? (lossd_code)number : LOSSD_CANCELLED, is_told ? text : "interrupted");
  Py_XDECREF(code);
  Py_XDECREF(message);
  if (is_told) {
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    return 0;
  }
  PyErr_Restore(type, error, trace);
  return -1;
}

/* -1: an exception that is not about connecting, such as KeyboardInterrupt. */
static int connect_driver(struct driver_object *self) {
  struct driver *driver = self->driver;
  pthread_mutex_lock(&driver->lock);
  uint64_t until = core_connect_until(&driver->core), now = driver->core.now;
  pthread_mutex_unlock(&driver->lock);
  PyObject *descriptor = PyObject_CallFunction(self->connect, "d", until <= now ? 0.0 : (double)(until - now) / 1e6);
  if (descriptor == NULL) return refuse(driver);
  long number = PyLong_AsLong(descriptor);
  Py_DECREF(descriptor);
  if (number < 0 || number > INT_MAX) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "connect gave no descriptor");
    return refuse(driver);
  }
  driver_connected(driver, (int)number);
  return 0;
}

/* ---- Driver ---- */

static PyObject *driver_make(PyTypeObject *type, PyObject *arguments, PyObject *options) {
  const char *name;
  unsigned long long timeout_us;
  PyObject *connect;
  int tries_unheard;
  (void)options;
  if (given.ndarray == NULL) {
    PyErr_SetString(PyExc_RuntimeError, "lossd._core has not been set up");
    return NULL;
  }
  if (!PyArg_ParseTuple(arguments, "sKOp", &name, &timeout_us, &connect, &tries_unheard)) return NULL;
  struct driver_object *self = (struct driver_object *)PyType_GenericAlloc(type, 0);
  if (self == NULL) return NULL;
  self->name = strdup(name);
  self->driver = self->name == NULL ? NULL : driver_new(self->name, timeout_us);
  if (self->driver == NULL) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  self->driver->core.tries_unheard = tries_unheard;
  if (connect == Py_None && !driver_make_poller(self->driver)) {
    Py_DECREF(self);
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  Py_INCREF(connect);
  self->connect = connect;
  return (PyObject *)self;
}

static void driver_dealloc(PyObject *object) {
  struct driver_object *self = (struct driver_object *)object;
  PyTypeObject *type = Py_TYPE(object);
  int has_forked = self->driver != NULL && driver_has_forked(self->driver);
  for (size_t place = 0; !has_forked && self->driver != NULL && place < SPARE_FUNCTIONS; place++) {
    struct spares *spares = &self->spares[place];
    while (spares->count > 0) driver_drop(self->driver, spares->calls[--spares->count]);
  }
  driver_free(self->driver);
  if (!has_forked) free(self->name); /* what was not freed has it */
  Py_XDECREF(self->connect);
  PyObject_Free(self);
  Py_DECREF(type);
}

static struct call_object *new_call(struct driver_object *self, PyObject *arguments) {
  PyObject *function, *inputs, *attributes, *outputs;
  unsigned long long timeout_us, below, token = 0;
  if (!PyArg_ParseTuple(arguments, "OOOOKK|K", &function, &inputs, &attributes, &outputs, &timeout_us, &below,
                        &token)) {
    return NULL;
  }
  if (driver_has_forked(self->driver)) return (struct call_object *)raise_forked(self->driver);
  const char *text = plain_text(function);
  struct call_object *call = PyObject_New(struct call_object, (PyTypeObject *)call_type);
  if (call == NULL) return NULL;
  memset(&call->owner, 0, sizeof *call - offsetof(struct call_object, owner));
  Py_INCREF((PyObject *)self);
  call->owner = self;
  int outcome = 0;
  if (text != NULL) {
    call->place = &self->spares[(uintptr_t)function / 64 % SPARE_FUNCTIONS];
    if (call->place->count > 0) call->call = call->place->calls[--call->place->count];
  }
  if (call->call != NULL && strcmp(call->call->function, text) == 0) {
    outcome = refill_call(call->call, inputs, attributes, outputs, (size_t)below, &call->loans);
  }
  if (call->call != NULL && outcome == 0) {
    loans_end(&call->loans);
    driver_drop(self->driver, call->call);
    call->call = NULL;
  }
  if (text != NULL && outcome == 0) {
    call->call = call_new(&self->driver->core, text);
    if (call->call == NULL) PyErr_NoMemory();
    outcome = call->call == NULL ? -1
                                 : fill_call(call->call, inputs, attributes, outputs, (size_t)below, &call->loans);
  }
  if (outcome == 1) {
    call->call->timeout_us = timeout_us;
    call->call->token = token;
    return call;
  }
  Py_DECREF(call);
  return NULL;
}

static PyObject *driver_prepare(PyObject *object, PyObject *arguments) {
  struct call_object *call = new_call((struct driver_object *)object, arguments);
  if (call != NULL) {
    call->is_prepared = 1;
    call->place = NULL; /* its results' memory is given: it is not for others */
    return (PyObject *)call;
  }
  if (PyErr_Occurred()) return NULL;
  Py_RETURN_NONE;
}

/* -1: an exception. */
static int start(struct call_object *call) {
  struct driver_object *owner = call->owner;
  lossd_error error;
  lossd_code code = driver_start(owner->driver, call->call, &error);
  if (code != LOSSD_OK) {
    raise_code(owner->driver, code, error.text);
    return -1;
  }
  if (owner->connect != Py_None && owner->driver->wants_socket && driver_take_connect(owner->driver) &&
      connect_driver(owner) != 0) {
    driver_abandon(owner->driver, call->call);
    return -1;
  }
  return 0;
}

static PyObject *driver_begin(PyObject *object, PyObject *arguments) {
  struct call_object *call = new_call((struct driver_object *)object, arguments);
  if (call == NULL && !PyErr_Occurred()) Py_RETURN_NONE;
  if (call == NULL || start(call) == 0) return (PyObject *)call;
  Py_DECREF((PyObject *)call);
  return NULL;
}

static PyObject *driver_end(PyObject *object, PyObject *nothing) {
  struct driver *driver = ((struct driver_object *)object)->driver;
  (void)nothing;
  if (!driver_has_forked(driver)) driver_close(driver);
  Py_RETURN_NONE;
}

static PyObject *driver_forked(PyObject *object, PyObject *nothing) {
  (void)nothing;
  return PyBool_FromLong(driver_has_forked(((struct driver_object *)object)->driver));
}

/* ---- For an event loop ---- */

static PyObject *driver_fileno(PyObject *object, PyObject *nothing) {
  (void)nothing;
  return PyLong_FromLong(((struct driver_object *)object)->driver->poller);
}

static PyObject *driver_step(PyObject *object, PyObject *nothing) {
  struct driver *driver = ((struct driver_object *)object)->driver;
  (void)nothing;
  if (driver_has_forked(driver)) return raise_forked(driver);
  PyObject *tokens = PyList_New(0);
  if (tokens == NULL) return NULL;
  driver_turn(driver);
  for (uint64_t token; (token = driver_next_ended(driver)) != 0;) {
    PyObject *number = PyLong_FromUnsignedLongLong(token);
    int is_added = number != NULL && PyList_Append(tokens, number) == 0;
    Py_XDECREF(number);
    if (!is_added) {
      Py_DECREF(tokens);
      return NULL;
    }
  }
  uint64_t pause = driver_pause(driver);
  PyObject *seconds = pause == NEVER ? Py_None : PyFloat_FromDouble((double)pause / 1e6);
  if (pause == NEVER) Py_INCREF(Py_None);
  return Py_BuildValue("NNN", tokens, PyBool_FromLong(driver_take_connect(driver)), seconds);
}

static PyObject *driver_take_socket(PyObject *object, PyObject *descriptor) {
  long number = PyLong_AsLong(descriptor);
  if (number < 0 || number > INT_MAX) {
    return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no descriptor: %ld", number);
  }
  const struct driver *driver = ((struct driver_object *)object)->driver;
  if (driver_has_forked(driver)) return raise_forked(driver);
  driver_connected(((struct driver_object *)object)->driver, (int)number);
  Py_RETURN_NONE;
}

static PyObject *driver_be_refused(PyObject *object, PyObject *arguments) {
  int code;
  const char *text;
  if (!PyArg_ParseTuple(arguments, "is", &code, &text)) return NULL;
  const struct driver *driver = ((struct driver_object *)object)->driver;
  if (driver_has_forked(driver)) return raise_forked(driver);
  driver_refused(((struct driver_object *)object)->driver, (lossd_code)code, text);
  Py_RETURN_NONE;
}

/* ---- Call ---- */

static void forget_kept(struct call_object *self) {
  for (size_t index = 0; index < self->kept_count; index++) Py_XDECREF(self->kept[index].memory);
  PyMem_Free(self->kept);
  self->kept = NULL;
  self->kept_count = 0;
}

static void call_dealloc(PyObject *object) {
  struct call_object *self = (struct call_object *)object;
  PyTypeObject *type = Py_TYPE(object);
  struct driver *driver = self->owner->driver;
  forget_kept(self);
  if (self->call != NULL && !driver_has_forked(driver)) {
    struct spares *place = self->place;
    int is_spare = place != NULL && place->count < SPARES && driver_is_done(driver, self->call) &&
                   self->call->state == CALL_DONE && self->call->outcome.code == LOSSD_OK;
    if (is_spare) {
      driver_retire(driver, self->call);
      for (size_t index = 0; index < self->call->result_count; index++) {
        struct result *result = &self->call->results[index];
        free(result->owned); /* where nobody took it */
        result->owned = NULL;
        result->owned_bytes = 0;
      }
      place->calls[place->count++] = self->call;
    } else {
      driver_drop(driver, self->call);
    }
  }
  loans_end(&self->loans);
  Py_XDECREF(self->results);
  Py_DECREF((PyObject *)self->owner);
  PyObject_Free(self);
  Py_DECREF(type);
}

/* Until the call has ended, well or not; -1: an exception, and the call has been given up. */
static int wait_for(struct call_object *self) {
  struct driver *driver = self->owner->driver;
  if (driver_is_done(driver, self->call)) return 0;
  if (self->owner->connect == Py_None) {
    raise_code(driver, LOSSD_FAILED_PRECONDITION, "the call is under way, and its event loop is to wait for it");
    return -1;
  }
  for (;;) {
    enum driver_outcome outcome;
    Py_BEGIN_ALLOW_THREADS
    outcome = driver_wait(driver, self->call, SLICE_US);
    Py_END_ALLOW_THREADS
    if (outcome == DRIVER_ENDED) return 0;
    if ((outcome == DRIVER_CONNECT && connect_driver(self->owner) != 0) || PyErr_CheckSignals() != 0) {
      driver_abandon(driver, self->call);
      return -1;
    }
  }
}

static PyObject *call_wait(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  if (self->results == NULL) {
    const struct driver *driver = self->owner->driver;
    if (driver_has_forked(driver)) return raise_forked(driver);
    if (self->is_prepared) return raise_code(driver, LOSSD_FAILED_PRECONDITION, "a prepared call is run");
    if (wait_for(self) != 0) return NULL;
    if (self->results == NULL) { /* else another thread was faster */
      loans_end(&self->loans);
      const lossd_error *outcome = &self->call->outcome;
      if (outcome->code != LOSSD_OK) return raise_code(driver, outcome->code, outcome->text);
      if (self->is_busy) return raise_busy(driver);
      self->is_busy = 1;
      self->results = results_of(self->call);
      self->is_busy = 0;
      if (self->results == NULL) return NULL;
    }
  }
  Py_INCREF(self->results);
  return self->results;
}

/* ---- Prepared calls ---- */

/* The next run makes its results anew. */
static void forget_results(struct call_object *self) {
  for (size_t index = 0; index < self->call->result_count; index++) {
    self->call->results[index].given = NULL;
    self->call->results[index].given_bytes = 0;
  }
  forget_kept(self);
  Py_CLEAR(self->results);
}

/* The results as arrays, whose memory is that of the next run's, too. NULL: an exception, and `forget_results` is to
 * follow. */
static PyObject *keep_results(struct call_object *self) {
  lossd_call *call = self->call;
  PyObject *results = PyTuple_New((Py_ssize_t)call->result_count);
  self->kept = PyMem_Calloc(call->result_count + 1, sizeof *self->kept);
  if (results == NULL || self->kept == NULL) {
    Py_XDECREF(results);
    return PyErr_NoMemory();
  }
  for (size_t index = 0; index < call->result_count; index++) {
    struct result *result = &call->results[index];
    struct kept *kept = &self->kept[index];
    PyObject *array = array_of(result, &kept->memory);
    if (array == NULL || PyTuple_SetItem(results, (Py_ssize_t)index, array) != 0) {
      Py_DECREF(results);
      return NULL;
    }
    self->kept_count++;
    kept->type = result->tensor.type;
    kept->rank = result->tensor.rank;
    memcpy(kept->shape, result->shape, kept->rank * sizeof *kept->shape);
    result->given = memory_base(kept->memory);
    result->given_bytes = memory_bytes(kept->memory);
  }
  return results;
}

/* Whether the results are what they were, but for their elements. */
static int is_as_before(const struct call_object *self) {
  if (self->call->result_count != self->kept_count) return 0;
  for (size_t index = 0; index < self->kept_count; index++) {
    const struct result *result = &self->call->results[index];
    const struct kept *kept = &self->kept[index];
    if (!result->is_present || result->tensor.type != kept->type || result->tensor.rank != kept->rank ||
        memcmp(result->shape, kept->shape, kept->rank * sizeof *kept->shape) != 0) {
      return 0;
    }
  }
  return 1;
}

static PyObject *run(struct call_object *self) {
  const struct driver *driver = self->owner->driver;
  if (driver_has_forked(driver)) return raise_forked(driver);
  if (!self->is_prepared) return raise_code(driver, LOSSD_FAILED_PRECONDITION, "a call that has begun is waited for");
  for (;;) {
    if (start(self) != 0 || wait_for(self) != 0) return NULL;
    const lossd_error *outcome = &self->call->outcome;
    if (outcome->code == LOSSD_OK && (self->results == NULL || is_as_before(self))) break;
    if (self->results == NULL || (outcome->code != LOSSD_OK && outcome->code != LOSSD_INVALID_ARGUMENT)) {
      return raise_code(driver, outcome->code, outcome->text);
    }
    forget_results(self); /* a result has another shape than last time */
  }
  if (self->results == NULL && (self->results = keep_results(self)) == NULL) {
    forget_results(self);
    return NULL;
  }
  Py_INCREF(self->results);
  return self->results;
}

static PyObject *call_run(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  if (self->is_busy) return raise_busy(self->owner->driver);
  self->is_busy = 1;
  PyObject *results = run(self);
  self->is_busy = 0;
  return results;
}

static PyObject *call_done(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  struct driver *driver = self->owner->driver;
  (void)nothing;
  if (driver_has_forked(driver)) Py_RETURN_TRUE;
  if (!driver_is_done(driver, self->call)) driver_turn(driver);
  return PyBool_FromLong(driver_is_done(driver, self->call));
}

static PyObject *call_give_up(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  if (!driver_has_forked(self->owner->driver)) driver_abandon(self->owner->driver, self->call);
  if (!self->is_prepared) loans_end(&self->loans);
  Py_RETURN_NONE;
}

static PyObject *call_stop(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  if (!driver_has_forked(self->owner->driver)) driver_cancel(self->owner->driver, self->call);
  Py_RETURN_NONE;
}

/* ---- The module ---- */

static PyObject *set_up(PyObject *module, PyObject *arguments) {
  struct given now;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "OO!OOO", &now.ndarray, &PyTuple_Type, &now.dtypes, &now.bfloat16, &now.error,
                        &now.lossd_error)) {
    return NULL;
  }
  if (PyTuple_Size(now.dtypes) != LOSSD_BOOL + 1) {
    PyErr_SetString(PyExc_ValueError, "expected a data type for each of the wire's");
    return NULL;
  }
  Py_INCREF(now.ndarray);
  Py_INCREF(now.dtypes);
  Py_INCREF(now.bfloat16);
  Py_INCREF(now.error);
  Py_INCREF(now.lossd_error);
  given = now;
  Py_RETURN_NONE;
}

/* A Call comes of a Driver alone. */
static PyObject *make_nothing(PyTypeObject *type, PyObject *arguments, PyObject *options) {
  (void)type, (void)arguments, (void)options;
  PyErr_SetString(PyExc_TypeError, "expected Driver.begin or Driver.prepare");
  return NULL;
}

static PyObject *type_of(const char *name, int size, newfunc make, destructor end, PyMethodDef *methods) {
  PyType_Slot slots[] = {
      {Py_tp_dealloc, (void *)end}, {Py_tp_methods, methods}, {Py_tp_new, (void *)make}, {0, NULL}};
  PyType_Spec spec = {name, size, 0, Py_TPFLAGS_DEFAULT, slots};
  return PyType_FromSpec(&spec);
}

static PyMethodDef driver_methods[] = {{"begin", driver_begin, METH_VARARGS, NULL},
                                       {"prepare", driver_prepare, METH_VARARGS, NULL},
                                       {"fileno", driver_fileno, METH_NOARGS, NULL},
                                       {"turn", driver_step, METH_NOARGS, NULL},
                                       {"connected", driver_take_socket, METH_O, NULL},
                                       {"refused", driver_be_refused, METH_VARARGS, NULL},
                                       {"close", driver_end, METH_NOARGS, NULL},
                                       {"has_forked", driver_forked, METH_NOARGS, NULL},
                                       {NULL, NULL, 0, NULL}};
static PyMethodDef call_methods[] = {{"wait", call_wait, METH_NOARGS, NULL},
                                     {"run", call_run, METH_NOARGS, NULL},
                                     {"done", call_done, METH_NOARGS, NULL},
                                     {"abandon", call_give_up, METH_NOARGS, NULL},
                                     {"cancel", call_stop, METH_NOARGS, NULL},
                                     {NULL, NULL, 0, NULL}};
static PyMethodDef functions[] = {{"setup", set_up, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "lossd._core", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) {
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
    PyErr_SetString(PyExc_ImportError, "lossd works in the main interpreter only, as numpy does");
    return NULL;
  }
  if (!driver_watch_forks()) return PyErr_NoMemory();
  PyObject *module = PyModule_Create(&definition);
  driver_type =
      type_of("lossd._core.Driver", sizeof(struct driver_object), driver_make, driver_dealloc, driver_methods);
  call_type = type_of("lossd._core.Call", sizeof(struct call_object), make_nothing, call_dealloc, call_methods);
  if (module == NULL || driver_type == NULL || call_type == NULL || !memory_setup() ||
      PyModule_AddObject(module, "Driver", driver_type) != 0 || PyModule_AddObject(module, "Call", call_type) != 0) {
    return NULL;
  }
  Py_INCREF(driver_type);
  Py_INCREF(call_type);
  return module;
}
