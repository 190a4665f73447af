/* lossd._core.Stream: a data set in batches.
 *
 * Stream.wait(what), for threads; Stream.holds(what), for an event loop: until one of
 *   READY     it takes batches, and `keeps()` names the inputs that stay
 *   SENT      every batch has been sent
 *   ANSWERED  a batch has been answered, or the stream has ended
 *   ROOM      fewer batches are under way, or answered and not taken, than the window allows
 * or it has failed, which `check()` raises.
 * Stream.add(inputs, number): queues a batch; Stream.take(): the results of the oldest one that has been answered, or
 * None; Stream.finish(): no more batches; Stream.fail(code, text); Stream.summary(): the Summary's bytes once all has
 * come, or None. */
#include "module.h"

#include "life.h"

enum what { READY, SENT, ANSWERED, ROOM, WHATS };

/* A batch that has not been taken. */
struct node {
  struct node *next;
  lossd_call *call;
  struct loans loans;
  PyObject *kept; /* a dict: what keeps the memory of inputs that stay */
};

struct stream_object {
  PyObject_HEAD
  struct driver_object *owner;
  lossd_stream *stream; /* NULL: it was not made */
  size_t window;
  struct node *nodes; /* in order */
  PyObject *kept;     /* of batches that have been answered: the latest of each name */
};

static PyObject *stream_type;

/* ---- Beginning and end ---- */

static void free_node(struct stream_object *self, struct node *node) {
  if (node->call != NULL && !driver_has_forked(self->owner->driver)) driver_drop(self->owner->driver, node->call);
  loans_end(&node->loans);
  Py_XDECREF(node->kept);
  PyMem_Free(node);
}

static void stream_dealloc(PyObject *object) {
  struct stream_object *self = (struct stream_object *)object;
  PyTypeObject *type = Py_TYPE(object);
  struct driver *driver = self->owner->driver;
  if (self->stream != NULL && !driver_has_forked(driver)) driver_stream_free(driver, self->stream);
  while (self->nodes != NULL) {
    struct node *next = self->nodes->next;
    free_node(self, self->nodes);
    self->nodes = next;
  }
  Py_XDECREF(self->kept);
  Py_DECREF((PyObject *)self->owner);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyObject *streams_begin(PyObject *object, PyObject *arguments) {
  struct driver_object *owner = (struct driver_object *)object;
  PyObject *function, *attributes, *outputs;
  unsigned long long timeout_us, token;
  Py_ssize_t window;
  lossd_error error;
  if (!PyArg_ParseTuple(arguments, "OOOKKn", &function, &attributes, &outputs, &timeout_us, &token, &window)) {
    return NULL;
  }
  if (driver_has_forked(owner->driver)) return raise_forked(owner->driver);
  const char *text = plain_text(function);
  PyObject *inputs = PyDict_New();
  if (inputs == NULL) return NULL;
  struct loans none = {NULL, 0, 0};
  lossd_call *first = text == NULL ? NULL : call_new(&owner->driver->core, text);
  int outcome = first == NULL ? 0 : fill_call(first, inputs, attributes, outputs, &none);
  loans_end(&none);
  Py_DECREF(inputs);
  struct stream_object *self = NULL;
  if (outcome == 1) self = PyObject_New(struct stream_object, (PyTypeObject *)stream_type);
  if (self != NULL) {
    Py_INCREF((PyObject *)owner);
    self->owner = owner;
    self->nodes = NULL;
    self->window = window < 1 ? 1 : (size_t)window;
    self->kept = PyDict_New();
    first->timeout_us = timeout_us;
    self->stream = self->kept == NULL ? NULL : driver_stream_new(owner->driver, first, token, &error);
    if (self->kept != NULL && self->stream == NULL) raise_code(owner->driver, error.code, error.text, NULL);
  }
  if (first != NULL) driver_drop(owner->driver, first);
  if (self == NULL && !PyErr_Occurred()) Py_RETURN_NONE;
  if (self != NULL && (self->stream == NULL || connect_where_wanted(owner) != 0)) {
    Py_DECREF((PyObject *)self);
    return NULL;
  }
  return (PyObject *)self;
}

/* ---- Waiting ---- */

static int has_ended(const lossd_stream *stream) { return stream->failure.code != LOSSD_OK || stream->is_complete; }

static int is_ready(const void *subject) {
  const lossd_stream *stream = ((const struct stream_object *)subject)->stream;
  return stream->is_ready || has_ended(stream);
}

static int is_sent(const void *subject) {
  const lossd_stream *stream = ((const struct stream_object *)subject)->stream;
  return !stream_has_unsent(stream) || has_ended(stream);
}

static int is_answered(const void *subject) {
  const lossd_stream *stream = ((const struct stream_object *)subject)->stream;
  return stream->answered > 0 || has_ended(stream);
}

static int has_room(const void *subject) {
  const struct stream_object *self = subject;
  return self->stream->batch_count < self->window || has_ended(self->stream);
}

/* Whoever has to wait for room waits for more of it: two threads that hand each batch to each other are slow. */
static int has_much_room(const void *subject) {
  const struct stream_object *self = subject;
  return self->stream->batch_count <= self->window / 2 || has_ended(self->stream);
}

static const driver_condition conditions[WHATS] = {is_ready, is_sent, is_answered, has_room};

/* NULL: an exception. */
static driver_condition condition_of(const struct stream_object *self, PyObject *what) {
  long number = PyLong_AsLong(what);
  if (PyErr_Occurred()) return NULL;
  if (driver_has_forked(self->owner->driver)) {
    raise_forked(self->owner->driver);
  } else if (number < 0 || number >= WHATS) {
    PyErr_Format(PyExc_ValueError, "nothing to wait for: %ld", number);
  } else {
    return conditions[number];
  }
  return NULL;
}

static PyObject *stream_wait(PyObject *object, PyObject *what) {
  struct stream_object *self = (struct stream_object *)object;
  driver_condition is_over = condition_of(self, what);
  if (is_over == NULL) return NULL;
  if (is_over == has_room && !driver_holds(self->owner->driver, has_room, self)) is_over = has_much_room;
  if (wait_until(self->owner, is_over, self) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *stream_holds(PyObject *object, PyObject *what) {
  struct stream_object *self = (struct stream_object *)object;
  driver_condition is_over = condition_of(self, what);
  return is_over == NULL ? NULL : PyBool_FromLong(driver_holds(self->owner->driver, is_over, self));
}

static PyObject *stream_check(PyObject *object, PyObject *nothing) {
  struct stream_object *self = (struct stream_object *)object;
  struct driver *driver = self->owner->driver;
  (void)nothing;
  if (driver_has_forked(driver)) return raise_forked(driver);
  driver_enter(driver);
  lossd_error failure = self->stream->failure;
  driver_exit(driver);
  /* A stream that has failed changes no more. */
  if (failure.code != LOSSD_OK) return raise_code(driver, failure.code, failure.text, &self->stream->status);
  Py_RETURN_NONE;
}

/* ---- Batches ---- */

static PyObject *stream_keep_names(PyObject *object, PyObject *nothing) {
  struct stream_object *self = (struct stream_object *)object;
  (void)nothing;
  if (driver_has_forked(self->owner->driver)) return raise_forked(self->owner->driver);
  size_t count = driver_holds(self->owner->driver, is_ready, self) ? self->stream->kept_count : 0;
  PyObject *names = PyTuple_New((Py_ssize_t)count);
  for (size_t index = 0; names != NULL && index < count; index++) {
    const char *text = self->stream->kept[index];
    PyObject *name = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    if (name == NULL || PyTuple_SetItem(names, (Py_ssize_t)index, name) != 0) Py_CLEAR(names);
  }
  return names;
}

/* Keeps the memory of those inputs that stay; -1: an exception. */
static int keep_inputs(struct stream_object *self, struct node *node, PyObject *inputs) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(inputs, &position, &name, &value)) {
    const char *text = plain_text(name);
    if (value == Py_None || text == NULL || !stream_keeps(self->stream, text)) continue;
    PyObject *view = PyMemoryView_FromObject(PyTuple_Check(value) ? PyTuple_GetItem(value, 0) : value);
    if (node->kept == NULL) node->kept = PyDict_New();
    int is_set = view != NULL && node->kept != NULL && PyDict_SetItem(node->kept, name, view) == 0;
    Py_XDECREF(view);
    if (!is_set) return -1;
  }
  return 0;
}

/* 1, 0 and -1 as with fill_call. */
static int fill_node(struct stream_object *self, struct node *node, PyObject *inputs) {
  PyObject *outputs = PyTuple_New(0);
  node->call = outputs == NULL ? NULL : call_new(&self->owner->driver->core, NULL);
  if (outputs != NULL && node->call == NULL) PyErr_NoMemory();
  int outcome = node->call == NULL ? -1 : fill_call(node->call, inputs, Py_None, outputs, &node->loans);
  Py_XDECREF(outputs);
  if (outcome != 1 || !driver_holds(self->owner->driver, is_ready, self)) return outcome;
  return keep_inputs(self, node, inputs) != 0 ? -1 : outcome;
}

/* The node of that call, taken out; NULL: there is none. */
static struct node *take_node(struct stream_object *self, const lossd_call *call) {
  for (struct node **link = &self->nodes; *link != NULL; link = &(*link)->next) {
    struct node *node = *link;
    if (node->call != call) continue;
    *link = node->next;
    return node;
  }
  return NULL;
}

static PyObject *stream_add_batch(PyObject *object, PyObject *arguments) {
  struct stream_object *self = (struct stream_object *)object;
  struct driver *driver = self->owner->driver;
  PyObject *inputs, *number_object;
  lossd_error error;
  lossd_code code;
  if (!PyArg_ParseTuple(arguments, "OO", &inputs, &number_object)) return NULL;
  unsigned long long number = PyLong_AsUnsignedLongLong(number_object);
  if (PyErr_Occurred()) return NULL;
  if (driver_has_forked(driver)) return raise_forked(driver);
  struct node *node = PyMem_Calloc(1, sizeof *node);
  if (node == NULL) return PyErr_NoMemory();
  int outcome = fill_node(self, node, inputs);
  if (outcome != 1) {
    free_node(self, node);
    if (outcome != 0) return NULL;
    Py_RETURN_FALSE;
  }
  const lossd_call *call = node->call;
  int is_big = node->loans.bytes >= DRIVER_BIG;
  struct node **last = &self->nodes;
  while (*last != NULL) last = &(*last)->next;
  *last = node; /* before it is added: another thread may take it at once */
  if (is_big) {
    LET_GO
    code = driver_stream_add(driver, self->stream, node->call, number, &error);
    TAKE_BACK
  } else {
    code = driver_stream_add(driver, self->stream, node->call, number, &error);
  }
  if (code != LOSSD_OK) {
    free_node(self, take_node(self, call));
    return raise_code(driver, code, error.text, NULL);
  }
  if (connect_where_wanted(self->owner) != 0) return NULL;
  Py_RETURN_TRUE;
}

static PyObject *stream_take(PyObject *object, PyObject *nothing) {
  struct stream_object *self = (struct stream_object *)object;
  (void)nothing;
  if (driver_has_forked(self->owner->driver)) return raise_forked(self->owner->driver);
  lossd_call *call = driver_stream_take(self->owner->driver, self->stream);
  struct node *node = call == NULL ? NULL : take_node(self, call);
  if (node == NULL) Py_RETURN_NONE;
  PyObject *results = results_of(self->owner, call);
  if (results != NULL && node->kept != NULL && PyDict_Update(self->kept, node->kept) != 0) Py_CLEAR(results);
  free_node(self, node);
  return results;
}

static PyObject *stream_finish(PyObject *object, PyObject *nothing) {
  struct stream_object *self = (struct stream_object *)object;
  (void)nothing;
  if (driver_has_forked(self->owner->driver)) return raise_forked(self->owner->driver);
  driver_stream_finish(self->owner->driver, self->stream);
  if (connect_where_wanted(self->owner) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *stream_be_failed(PyObject *object, PyObject *arguments) {
  struct stream_object *self = (struct stream_object *)object;
  int code;
  const char *text;
  if (!PyArg_ParseTuple(arguments, "is", &code, &text)) return NULL;
  if (code <= 0 || code > 16) return PyErr_Format(PyExc_ValueError, "no code of an error: %d", code);
  if (!driver_has_forked(self->owner->driver)) {
    driver_stream_fail(self->owner->driver, self->stream, (lossd_code)code, text);
  }
  Py_RETURN_NONE;
}

static PyObject *stream_summary(PyObject *object, PyObject *nothing) {
  struct stream_object *self = (struct stream_object *)object;
  (void)nothing;
  if (driver_has_forked(self->owner->driver)) return raise_forked(self->owner->driver);
  driver_enter(self->owner->driver);
  int is_complete = self->stream->is_complete;
  driver_exit(self->owner->driver);
  if (!is_complete) Py_RETURN_NONE;
  const struct bytes *message = &self->stream->summary_message;
  return PyBytes_FromStringAndSize(message->length == 0 ? "" : (const char *)message->base, (Py_ssize_t)message->length);
}

int streams_setup(PyObject *module) {
  static const char *const names[WHATS] = {"READY", "SENT", "ANSWERED", "ROOM"};
  static PyMethodDef methods[] = {{"wait", stream_wait, METH_O, NULL},
                                  {"holds", stream_holds, METH_O, NULL},
                                  {"check", stream_check, METH_NOARGS, NULL},
                                  {"keeps", stream_keep_names, METH_NOARGS, NULL},
                                  {"add", stream_add_batch, METH_VARARGS, NULL},
                                  {"take", stream_take, METH_NOARGS, NULL},
                                  {"finish", stream_finish, METH_NOARGS, NULL},
                                  {"fail", stream_be_failed, METH_VARARGS, NULL},
                                  {"summary", stream_summary, METH_NOARGS, NULL},
                                  {NULL, NULL, 0, NULL}};
  stream_type = type_of("lossd._core.Stream", sizeof(struct stream_object), make_nothing, stream_dealloc, methods,
                        (PyType_Slot){0, NULL});
  if (stream_type == NULL || PyModule_AddObject(module, "Stream", stream_type) != 0) return 0;
  Py_INCREF(stream_type);
  for (int what = 0; what < WHATS; what++) {
    if (PyModule_AddIntConstant(module, names[what], what) != 0) return 0;
  }
  return 1;
}
