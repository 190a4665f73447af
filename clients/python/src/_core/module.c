/* lossd._core: a client over liblossd's core, for lossd._driver. Not for users.
 *
 * Driver(name, connect_timeout_us, connect, tries_unheard, is_local, shared_min, shared_max): what one client has
 *   under way, for any threads. `connect(seconds)` gives the descriptor of a connected socket, or raises LossdError;
 *   None: the driver is an event loop's, which watches `fileno()`, calls `turn()` when that can be read, after
 *   something has begun and after its pause, and answers a wish to connect by `connected(descriptor)` or
 *   `refused(code, text)`.
 * Driver.begin(function, inputs, attributes, outputs, timeout_us, token), Driver.prepare(...), Driver.part(...,
 *   token, number, summaries), Driver.raw(method, message, timeout_us, token), Driver.ping(timeout_us, token): a
 *   Call, begun but for `prepare`'s; None where the arguments are not plain enough, see fill_call. A token that is
 *   not 0 says, for threads, that nobody may wait for it soon.
 * Driver.stream(function, attributes, outputs, timeout_us, token, window): a Stream; None as before.
 * Driver.share(bytes, token): a Memory that the daemon has been asked for; None where there is none to be had.
 * Driver.turn(): tokens of what has come further, whether to connect, and seconds until the next turn, or None.
 * Driver.close(), Driver.has_forked(); before_fork(). calls.c, streams.c and memory_object.c have the other types. */
#include "module.h"

#include <limits.h>

#define SLICE_US 100000 /* a signal that another thread was given is looked for so often */

struct given given;

static PyObject *driver_type;

/* ---- The interpreter's lock ---- */

__thread int has_let_go;

/* Whoever has the driver's lock may want the interpreter's. */
static void lock_slowly(pthread_mutex_t *lock) {
  if (has_let_go) {
    pthread_mutex_lock(lock);
    return;
  }
  Py_BEGIN_ALLOW_THREADS
  pthread_mutex_lock(lock);
  Py_END_ALLOW_THREADS
}

/* ---- Errors ---- */

PyObject *raise_code(const struct driver *driver, lossd_code code, const char *text, const struct bytes *status) {
  int is_closed = driver->is_closed && !driver_has_forked(driver) && code == LOSSD_UNAVAILABLE;
  PyObject *error = status == NULL || status->length == 0
                        ? PyObject_CallFunction(given.error, "isiO", (int)code, text, is_closed, Py_None)
                        : PyObject_CallFunction(given.error, "isiy#", (int)code, text, is_closed, status->base,
                                                (Py_ssize_t)status->length);
  if (error != NULL) {
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
  }
  return NULL;
}

PyObject *raise_forked(const struct driver *driver) {
  return raise_code(driver, LOSSD_UNAVAILABLE, "the process has forked: the call is its parent's", NULL);
}

PyObject *raise_busy(const struct driver *driver) {
  return raise_code(driver, LOSSD_FAILED_PRECONDITION, "another thread has the call", NULL);
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
  driver_enter(driver);
  uint64_t until = core_connect_until(&driver->core), now = driver->core.now;
  driver_exit(driver);
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

int connect_where_wanted(struct driver_object *owner) {
  if (owner->connect == Py_None || !owner->driver->wants_socket || !driver_take_connect(owner->driver)) return 0;
  return connect_driver(owner);
}

int wait_until(struct driver_object *owner, driver_condition is_over, const void *subject) {
  struct driver *driver = owner->driver;
  if (driver_holds(driver, is_over, subject)) return 0;
  if (owner->connect == Py_None) {
    raise_code(driver, LOSSD_FAILED_PRECONDITION, "it is under way, and its event loop is to wait for it", NULL);
    return -1;
  }
  for (;;) {
    enum driver_outcome outcome;
    LET_GO
    outcome = driver_wait(driver, is_over, subject, SLICE_US);
    TAKE_BACK
    if (outcome == DRIVER_ENDED) return 0;
    if ((outcome == DRIVER_CONNECT && connect_driver(owner) != 0) || PyErr_CheckSignals() != 0) return -1;
  }
}

/* ---- Driver ---- */

static PyObject *driver_make(PyTypeObject *type, PyObject *arguments, PyObject *options) {
  const char *name;
  unsigned long long timeout_us;
  PyObject *connect;
  Py_ssize_t shared_min, shared_max;
  int tries_unheard, is_local;
  (void)options;
  if (given.ndarray == NULL) {
    PyErr_SetString(PyExc_RuntimeError, "lossd._core has not been set up");
    return NULL;
  }
  if (!PyArg_ParseTuple(arguments, "sKOppnn", &name, &timeout_us, &connect, &tries_unheard, &is_local, &shared_min,
                        &shared_max)) {
    return NULL;
  }
  if (shared_min < 0 || shared_max < 0) return PyErr_Format(PyExc_ValueError, "expected numbers of bytes");
  struct driver_object *self = (struct driver_object *)PyType_GenericAlloc(type, 0);
  if (self == NULL) return NULL;
  self->name = strdup(name);
  self->driver = self->name == NULL ? NULL
                                    : driver_new(self->name, timeout_us, is_local, (size_t)shared_min, (size_t)shared_max);
  if (self->driver == NULL) {
    Py_DECREF((PyObject *)self);
    return PyErr_NoMemory();
  }
  self->driver->core.tries_unheard = tries_unheard;
  if (connect == Py_None && !driver_make_poller(self->driver)) {
    Py_DECREF((PyObject *)self);
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
  if (driver->has_big) {
    LET_GO
    driver_turn(driver);
    TAKE_BACK
  } else {
    driver_turn(driver);
  }
  for (uint64_t token; (token = driver_next_token(driver)) != 0;) {
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

/* ---- The module ---- */

static PyObject *keep_before_fork(PyObject *module, PyObject *nothing) {
  (void)module, (void)nothing;
  driver_before_fork();
  Py_RETURN_NONE;
}

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

PyObject *make_nothing(PyTypeObject *type, PyObject *arguments, PyObject *options) {
  (void)type, (void)arguments, (void)options;
  PyErr_SetString(PyExc_TypeError, "expected a method of lossd._core.Driver");
  return NULL;
}

PyObject *type_of(const char *name, int size, newfunc make, destructor end, PyMethodDef *methods, PyType_Slot buffer) {
  PyType_Slot slots[] = {
      {Py_tp_dealloc, (void *)end}, {Py_tp_methods, methods}, {Py_tp_new, (void *)make}, buffer, {0, NULL}};
  PyType_Spec spec = {name, size, 0, Py_TPFLAGS_DEFAULT, slots};
  return PyType_FromSpec(&spec);
}

static PyMethodDef driver_methods[] = {{"begin", calls_begin, METH_VARARGS, NULL},
                                       {"prepare", calls_prepare, METH_VARARGS, NULL},
                                       {"part", calls_part, METH_VARARGS, NULL},
                                       {"raw", calls_raw, METH_VARARGS, NULL},
                                       {"ping", calls_ping, METH_VARARGS, NULL},
                                       {"stream", streams_begin, METH_VARARGS, NULL},
                                       {"share", memory_share, METH_VARARGS, NULL},
                                       {"fileno", driver_fileno, METH_NOARGS, NULL},
                                       {"turn", driver_step, METH_NOARGS, NULL},
                                       {"connected", driver_take_socket, METH_O, NULL},
                                       {"refused", driver_be_refused, METH_VARARGS, NULL},
                                       {"close", driver_end, METH_NOARGS, NULL},
                                       {"has_forked", driver_forked, METH_NOARGS, NULL},
                                       {NULL, NULL, 0, NULL}};
static PyMethodDef functions[] = {{"setup", set_up, METH_VARARGS, NULL},
                                  {"before_fork", keep_before_fork, METH_NOARGS, NULL},
                                  {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "lossd._core", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) {
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
    PyErr_SetString(PyExc_ImportError, "lossd works in the main interpreter only, as numpy does");
    return NULL;
  }
  if (!driver_watch_forks()) return PyErr_NoMemory();
  driver_lock_slowly = lock_slowly;
  PyObject *module = PyModule_Create(&definition);
  driver_type = type_of("lossd._core.Driver", sizeof(struct driver_object), driver_make, driver_dealloc, driver_methods,
                        (PyType_Slot){0, NULL});
  if (module == NULL || driver_type == NULL || !memory_setup(module) || !calls_setup(module) || !streams_setup(module) ||
      PyModule_AddObject(module, "Driver", driver_type) != 0) {
    return NULL;
  }
  Py_INCREF(driver_type);
  return module;
}
