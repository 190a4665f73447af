/* lossd._core.Call: an evaluation, one that is prepared, a part of a data set, a call of another method, or a ping.
 *
 * Call.has_ended(): whether it has, without looking for more;
 * Call.wait(): its results by name; Call.answer(): bytes, of a part its Summary, of another method its response;
 * Call.seconds(): a ping's; Call.run(): a prepared one's results, in the order of the outputs; Call.done(): looks,
 *   too; Call.cancel();
 * Call.abandon(): it is given up, and its arrays are nobody's any more. */
#include "module.h"

#include <stddef.h>

#include "life.h"

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

PyObject *call_type;

/* ---- Beginning ---- */

/* Of `call`, which is taken over; NULL: an exception. */
static struct call_object *wrap(struct driver_object *owner, lossd_call *call) {
  struct call_object *self = PyObject_New(struct call_object, (PyTypeObject *)call_type);
  if (self == NULL) {
    if (call != NULL) driver_drop(owner->driver, call);
    return NULL;
  }
  memset(&self->owner, 0, sizeof *self - offsetof(struct call_object, owner));
  Py_INCREF((PyObject *)owner);
  self->owner = owner;
  self->call = call;
  return self;
}

/* For the function of that name: one that was made of the same, or a new one. As fill_call. */
static int find_call(struct call_object *self, PyObject *function, PyObject *inputs, PyObject *attributes,
                     PyObject *outputs) {
  struct driver_object *owner = self->owner;
  const char *text = plain_text(function);
  int outcome = 0, has_no_into = 0;
  if (text == NULL) return 0;
  self->place = &owner->spares[(uintptr_t)function / 64 % SPARE_FUNCTIONS];
  if (self->place->count > 0) self->call = self->place->calls[--self->place->count];
  if (self->call != NULL && strcmp(self->call->function, text) == 0) {
    has_no_into = self->call->has_no_into;
    outcome = refill_call(self->call, inputs, attributes, outputs, &self->loans);
  }
  if (self->call != NULL && outcome == 0) {
    loans_end(&self->loans);
    driver_drop(owner->driver, self->call);
    self->call = NULL;
  }
  if (outcome != 0) return outcome;
  self->call = call_new(&owner->driver->core, text);
  if (self->call == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  self->call->has_no_into = has_no_into;
  return fill_call(self->call, inputs, attributes, outputs, &self->loans);
}

/* NULL: an exception, or none where the arguments are not plain. */
static struct call_object *make(struct driver_object *owner, PyObject *arguments) {
  PyObject *function, *inputs, *attributes, *outputs;
  unsigned long long timeout_us, token = 0;
  if (!PyArg_ParseTuple(arguments, "OOOOK|K", &function, &inputs, &attributes, &outputs, &timeout_us, &token)) {
    return NULL;
  }
  if (driver_has_forked(owner->driver)) return (struct call_object *)raise_forked(owner->driver);
  struct call_object *self = wrap(owner, NULL);
  if (self == NULL) return NULL;
  if (find_call(self, function, inputs, attributes, outputs) == 1) {
    self->call->timeout_us = timeout_us;
    self->call->source.token = token;
    return self;
  }
  Py_DECREF((PyObject *)self);
  return NULL;
}

/* -1: an exception. */
static int start(struct call_object *self) {
  struct driver_object *owner = self->owner;
  lossd_error error;
  lossd_code code;
  int is_left = self->call->source.token != 0;
  if (self->loans.bytes >= DRIVER_BIG) {
    LET_GO
    code = driver_start(owner->driver, self->call, is_left, &error);
    TAKE_BACK
  } else {
    code = driver_start(owner->driver, self->call, is_left, &error);
  }
  if (code != LOSSD_OK) {
    raise_code(owner->driver, code, error.text, NULL);
    return -1;
  }
  if (connect_where_wanted(owner) == 0) return 0;
  driver_abandon(owner->driver, self->call);
  return -1;
}

static PyObject *started(struct call_object *self) {
  if (self == NULL && !PyErr_Occurred()) Py_RETURN_NONE;
  if (self == NULL || start(self) == 0) return (PyObject *)self;
  Py_DECREF((PyObject *)self);
  return NULL;
}

PyObject *calls_begin(PyObject *driver, PyObject *arguments) {
  return started(make((struct driver_object *)driver, arguments));
}

PyObject *calls_prepare(PyObject *driver, PyObject *arguments) {
  struct call_object *self = make((struct driver_object *)driver, arguments);
  if (self != NULL) {
    self->is_prepared = 1;
    self->place = NULL; /* its results' memory is given: it is not for others */
    return (PyObject *)self;
  }
  if (PyErr_Occurred()) return NULL;
  Py_RETURN_NONE;
}

PyObject *calls_part(PyObject *object, PyObject *arguments) {
  struct driver_object *owner = (struct driver_object *)object;
  PyObject *function, *inputs, *attributes, *outputs;
  unsigned long long timeout_us, token, number;
  const char *summaries;
  Py_ssize_t length;
  if (!PyArg_ParseTuple(arguments, "OOOOKKKy#", &function, &inputs, &attributes, &outputs, &timeout_us, &token, &number,
                        &summaries, &length)) {
    return NULL;
  }
  if (driver_has_forked(owner->driver)) return raise_forked(owner->driver);
  const char *text = plain_text(function);
  if (text == NULL) Py_RETURN_NONE;
  lossd_call *call = call_new_part(&owner->driver->core, text, number, summaries, (size_t)length);
  if (call == NULL) return PyErr_NoMemory();
  struct call_object *self = wrap(owner, call);
  if (self == NULL) return NULL;
  if (fill_call(call, inputs, attributes, outputs, &self->loans) == 1) {
    call->timeout_us = timeout_us;
    call->source.token = token;
    return started(self);
  }
  Py_DECREF((PyObject *)self);
  return started(NULL);
}

PyObject *calls_raw(PyObject *object, PyObject *arguments) {
  static const char *const methods[] = {"/lossd.v1.Evaluator/ListFunctions", "/lossd.v1.Daemon/GetStatus"};
  struct driver_object *owner = (struct driver_object *)object;
  const char *method, *message, *known = NULL;
  Py_ssize_t length;
  unsigned long long timeout_us, token;
  if (!PyArg_ParseTuple(arguments, "sy#KK", &method, &message, &length, &timeout_us, &token)) return NULL;
  for (size_t index = 0; index < sizeof methods / sizeof *methods; index++) {
    if (strcmp(method, methods[index]) == 0) known = methods[index];
  }
  if (known == NULL) return PyErr_Format(PyExc_ValueError, "no method: %s", method);
  if (driver_has_forked(owner->driver)) return raise_forked(owner->driver);
  lossd_call *call = call_new_raw(&owner->driver->core, known, message, (size_t)length);
  if (call == NULL) return PyErr_NoMemory();
  call->timeout_us = timeout_us;
  call->source.token = token;
  return started(wrap(owner, call));
}

PyObject *calls_ping(PyObject *object, PyObject *arguments) {
  struct driver_object *owner = (struct driver_object *)object;
  unsigned long long timeout_us, token;
  if (!PyArg_ParseTuple(arguments, "KK", &timeout_us, &token)) return NULL;
  if (driver_has_forked(owner->driver)) return raise_forked(owner->driver);
  lossd_call *call = call_new_ping(&owner->driver->core);
  if (call == NULL) return PyErr_NoMemory();
  call->timeout_us = timeout_us;
  call->source.token = token;
  return started(wrap(owner, call));
}

/* ---- End ---- */

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
    int is_spare = place != NULL && driver_holds(driver, driver_call_has_ended, self->call) &&
                   self->call->state == CALL_DONE && self->call->outcome.code == LOSSD_OK;
    if (is_spare) driver_retire(driver, self->call);
    /* Whatever takes the driver's lock may let other threads in: the room is looked at last. */
    if (is_spare && place->count < SPARES) {
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
  if (driver_holds(driver, driver_call_has_ended, self->call)) return 0;
  if (wait_until(self->owner, driver_call_has_ended, self->call) == 0) return 0;
  driver_abandon(driver, self->call);
  return -1;
}

static PyObject *raise_outcome(struct call_object *self) {
  const lossd_error *outcome = &self->call->outcome;
  return raise_code(self->owner->driver, outcome->code, outcome->text, &self->call->answer);
}

static PyObject *call_wait(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  if (self->results == NULL) {
    const struct driver *driver = self->owner->driver;
    if (driver_has_forked(driver)) return raise_forked(driver);
    if (self->is_prepared) {
      return raise_code(driver, LOSSD_FAILED_PRECONDITION, "a prepared call is run", NULL);
    }
    if (wait_for(self) != 0) return NULL;
    if (self->results == NULL) { /* else another thread was faster */
      loans_end(&self->loans);
      if (self->call->outcome.code != LOSSD_OK) return raise_outcome(self);
      if (self->is_busy) return raise_busy(driver);
      self->is_busy = 1;
      self->results = results_of(self->owner, self->call);
      self->is_busy = 0;
      if (self->results == NULL) return NULL;
    }
  }
  Py_INCREF(self->results);
  return self->results;
}

/* Whether the call has ended well; if not, an exception. */
static int has_answer(struct call_object *self) {
  const struct driver *driver = self->owner->driver;
  if (driver_has_forked(driver)) {
    raise_forked(driver);
  } else if (self->is_prepared) {
    raise_code(driver, LOSSD_FAILED_PRECONDITION, "a prepared call is run", NULL);
  } else if (!driver_holds(self->owner->driver, driver_call_has_ended, self->call) || self->call->state != CALL_DONE) {
    raise_code(driver, LOSSD_FAILED_PRECONDITION, "the call has not ended", NULL);
  } else if (self->call->outcome.code != LOSSD_OK) {
    raise_outcome(self);
  } else {
    return 1;
  }
  return 0;
}

static PyObject *call_answer(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  if (!has_answer(self)) return NULL;
  const struct bytes *answer = &self->call->answer;
  return PyBytes_FromStringAndSize(answer->length == 0 ? "" : (const char *)answer->base, (Py_ssize_t)answer->length);
}

static PyObject *call_seconds(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  (void)nothing;
  return has_answer(self) ? PyFloat_FromDouble((double)self->call->round_trip / 1e6) : NULL;
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
    PyObject *array = array_of(self->owner, result, &kept->memory);
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
  if (!self->is_prepared) {
    return raise_code(driver, LOSSD_FAILED_PRECONDITION, "a call that has begun is waited for", NULL);
  }
  for (;;) {
    if (start(self) != 0 || wait_for(self) != 0) {
      forget_results(self); /* the daemon may still write to them */
      return NULL;
    }
    lossd_code code = self->call->outcome.code;
    if (code == LOSSD_OK && (self->results == NULL || is_as_before(self))) break;
    int had_results = self->results != NULL;
    forget_results(self); /* a result has another shape than last time; or the daemon may still write to them */
    if (!had_results || (code != LOSSD_OK && code != LOSSD_INVALID_ARGUMENT)) return raise_outcome(self);
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

/* ---- Others ---- */

static PyObject *call_done(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  struct driver *driver = self->owner->driver;
  (void)nothing;
  if (driver_has_forked(driver)) Py_RETURN_TRUE;
  if (!driver_holds(driver, driver_call_has_ended, self->call)) driver_turn(driver);
  return PyBool_FromLong(driver_holds(driver, driver_call_has_ended, self->call));
}

static PyObject *call_has_ended(PyObject *object, PyObject *nothing) {
  struct call_object *self = (struct call_object *)object;
  struct driver *driver = self->owner->driver;
  (void)nothing;
  return PyBool_FromLong(driver_has_forked(driver) || driver_holds(driver, driver_call_has_ended, self->call));
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

int calls_setup(PyObject *module) {
  static PyMethodDef methods[] = {{"wait", call_wait, METH_NOARGS, NULL},
                                  {"answer", call_answer, METH_NOARGS, NULL},
                                  {"seconds", call_seconds, METH_NOARGS, NULL},
                                  {"run", call_run, METH_NOARGS, NULL},
                                  {"done", call_done, METH_NOARGS, NULL},
                                  {"has_ended", call_has_ended, METH_NOARGS, NULL},
                                  {"abandon", call_give_up, METH_NOARGS, NULL},
                                  {"cancel", call_stop, METH_NOARGS, NULL},
                                  {NULL, NULL, 0, NULL}};
  call_type = type_of("lossd._core.Call", sizeof(struct call_object), make_nothing, call_dealloc, methods,
                      (PyType_Slot){0, NULL});
  if (call_type == NULL || PyModule_AddObject(module, "Call", call_type) != 0) return 0;
  Py_INCREF(call_type);
  return 1;
}
