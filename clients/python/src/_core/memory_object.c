/* lossd._core.Memory: what arrays lie in. Memory of results, or memory that is shared with the daemon.
 *
 * Memory.wait(), for threads; Memory.is_settled(), for an event loop: whether the daemon has answered;
 * Memory.is_there(): whether it has given it. Then it is a buffer. */
#include "module.h"

struct memory {
  PyObject_HEAD
  void *base; /* NULL: the daemon has not given it */
  size_t bytes;
  struct driver_object *owner; /* of a segment; NULL: `base` is of malloc */
  struct segment *segment;
};

static PyObject *memory_type;

static struct memory *make(void *base, size_t bytes) {
  struct memory *self = PyObject_New(struct memory, (PyTypeObject *)memory_type);
  if (self == NULL) return NULL;
  self->base = base;
  self->bytes = bytes;
  self->owner = NULL;
  self->segment = NULL;
  return self;
}

PyObject *memory_new(void *base, size_t bytes) {
  struct memory *self = make(base, bytes);
  if (self == NULL) free(base);
  return (PyObject *)self;
}

PyObject *memory_of_segment(struct driver_object *owner, struct segment *segment, size_t bytes) {
  struct memory *self = make(bytes == 0 ? NULL : segment->base, bytes);
  if (self == NULL) {
    driver_leave(owner->driver, segment);
    return NULL;
  }
  Py_INCREF((PyObject *)owner);
  self->owner = owner;
  self->segment = segment;
  return (PyObject *)self;
}

void *memory_base(PyObject *memory) { return ((struct memory *)memory)->base; }
size_t memory_bytes(PyObject *memory) { return ((struct memory *)memory)->bytes; }

PyObject *memory_share(PyObject *object, PyObject *arguments) {
  struct driver_object *owner = (struct driver_object *)object;
  Py_ssize_t bytes;
  unsigned long long token;
  if (!PyArg_ParseTuple(arguments, "nK", &bytes, &token)) return NULL;
  if (driver_has_forked(owner->driver)) return raise_forked(owner->driver);
  struct segment *segment = bytes <= 0 ? NULL : driver_share(owner->driver, (size_t)bytes, token);
  if (segment == NULL) Py_RETURN_NONE;
  return memory_of_segment(owner, segment, 0);
}

static void memory_dealloc(PyObject *object) {
  struct memory *self = (struct memory *)object;
  PyTypeObject *type = Py_TYPE(object);
  if (self->owner == NULL) {
    free(self->base);
  } else if (!driver_has_forked(self->owner->driver)) {
    driver_leave(self->owner->driver, self->segment);
  } else if (self->base != NULL) {
    segment_unmap(&self->owner->driver->core, self->segment);
  }
  Py_XDECREF((PyObject *)self->owner);
  PyObject_Free(self);
  Py_DECREF(type);
}

static PyObject *memory_wait(PyObject *object, PyObject *nothing) {
  struct memory *self = (struct memory *)object;
  (void)nothing;
  if (self->owner == NULL) Py_RETURN_NONE;
  if (driver_has_forked(self->owner->driver)) return raise_forked(self->owner->driver);
  if (wait_until(self->owner, driver_segment_is_settled, self->segment) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *memory_is_settled(PyObject *object, PyObject *nothing) {
  struct memory *self = (struct memory *)object;
  (void)nothing;
  if (self->owner == NULL || driver_has_forked(self->owner->driver)) Py_RETURN_TRUE;
  return PyBool_FromLong(driver_holds(self->owner->driver, driver_segment_is_settled, self->segment));
}

static PyObject *memory_is_there(PyObject *object, PyObject *nothing) {
  struct memory *self = (struct memory *)object;
  (void)nothing;
  if (self->base == NULL && self->owner != NULL && !driver_has_forked(self->owner->driver)) {
    struct driver *driver = self->owner->driver;
    driver_enter(driver);
    self->base = self->segment->base; /* also where the connection has ended since: ordinary memory */
    self->bytes = self->base == NULL ? 0 : self->segment->size;
    driver_exit(driver);
  }
  return PyBool_FromLong(self->base != NULL);
}

static int memory_getbuffer(PyObject *object, Py_buffer *view, int flags) {
  struct memory *self = (struct memory *)object;
  if (self->base == NULL) {
    view->obj = NULL;
    PyErr_SetString(PyExc_BufferError, "the memory is not there");
    return -1;
  }
  return PyBuffer_FillInfo(view, object, self->base, (Py_ssize_t)self->bytes, 0, flags);
}

int memory_setup(PyObject *module) {
  static PyMethodDef methods[] = {{"wait", memory_wait, METH_NOARGS, NULL},
                                  {"is_settled", memory_is_settled, METH_NOARGS, NULL},
                                  {"is_there", memory_is_there, METH_NOARGS, NULL},
                                  {NULL, NULL, 0, NULL}};
  memory_type = type_of("lossd._core.Memory", sizeof(struct memory), make_nothing, memory_dealloc, methods,
                        (PyType_Slot){Py_bf_getbuffer, (void *)memory_getbuffer});
  if (memory_type == NULL || PyModule_AddObject(module, "Memory", memory_type) != 0) return 0;
  Py_INCREF(memory_type);
  return 1;
}
