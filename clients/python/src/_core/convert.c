/* Python's objects as a call's inputs and attributes, and its results as numpy's arrays. */
#include "module.h"

/* ---- Inputs ---- */

const char *plain_text(PyObject *object) {
  Py_ssize_t length;
  if (!PyUnicode_Check(object)) return NULL;
  const char *text = PyUnicode_AsUTF8AndSize(object, &length);
  if (text == NULL) {
    PyErr_Clear(); /* a lone surrogate */
    return NULL;
  }
  return strlen(text) == (size_t)length ? text : NULL;
}

void loans_end(struct loans *loans) {
  for (Py_ssize_t index = 0; index < loans->count; index++) PyBuffer_Release(&loans->buffers[index]);
  PyMem_Free(loans->buffers);
  loans->buffers = NULL;
  loans->count = 0;
  loans->bytes = 0;
}

/* The type of a buffer's elements, by the letter that the struct module has for it; 0: none of the wire's. */
static lossd_type type_of_format(const char *format, Py_ssize_t size) {
  if (format != NULL && format[0] == '<') format++; /* as the wire has it, and the machines that this is for */
  if (format == NULL || format[0] == 0 || format[1] != 0) return 0;
  switch (format[0]) {
    case 'f': return LOSSD_FLOAT32;
    case 'd': return LOSSD_FLOAT64;
    case 'e': return LOSSD_FLOAT16;
    case '?': return LOSSD_BOOL;
    case 'B': return LOSSD_UINT8;
    case 'b': return LOSSD_INT8;
    case 'h': return LOSSD_INT16;
    case 'i':
    case 'l':
    case 'q': return size == 8 ? LOSSD_INT64 : size == 4 ? LOSSD_INT32 : 0;
    default: return 0;
  }
}

/* An input as a tensor, its memory on loan. 1, 0 and -1 as with fill_call. */
struct tensor {
  const char *name;
  lossd_type type;
  size_t rank;
  int64_t shape[LOSSD_RANK_MAX + 1];
  const void *data;
  size_t bytes;
};

static int tensor_of(PyObject *name, PyObject *value, struct tensor *tensor, struct loans *loans) {
  PyObject *kind = NULL;
  tensor->name = plain_text(name);
  if (tensor->name == NULL) return 0;
  if (PyTuple_Check(value) && PyTuple_Size(value) == 2) {
    kind = PyTuple_GetItem(value, 1);
    value = PyTuple_GetItem(value, 0);
  }
  if ((PyObject *)Py_TYPE(value) != given.ndarray) return 0;
  Py_buffer *buffer = &loans->buffers[loans->count];
  if (PyObject_GetBuffer(value, buffer, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) {
    PyErr_Clear();
    return 0;
  }
  loans->count++;
  tensor->type = type_of_format(buffer->format, buffer->itemsize);
  if (kind != NULL && PyUnicode_CompareWithASCIIString(kind, "bfloat16") == 0) {
    tensor->type = buffer->itemsize == 2 ? LOSSD_BFLOAT16 : 0;
  }
  if (tensor->type == 0 || buffer->ndim > LOSSD_RANK_MAX) return 0;
  tensor->rank = (size_t)buffer->ndim;
  for (size_t index = 0; index < tensor->rank; index++) tensor->shape[index] = buffer->shape[index];
  static const char nothing[1];
  tensor->data = buffer->len == 0 ? nothing : buffer->buf;
  tensor->bytes = (size_t)buffer->len;
  return 1;
}

/* Of the input of that place, which is to be the same as before: 1. */
static int put_again(lossd_call *call, size_t place, const struct tensor *tensor) {
  if (place >= call->input_count) return 0;
  struct input *input = &call->inputs[place];
  if (strcmp(input->name, tensor->name) != 0 || input->type != tensor->type || input->rank != tensor->rank ||
      memcmp(input->shape, tensor->shape, tensor->rank * sizeof *tensor->shape) != 0) {
    return 0;
  }
  input->data = tensor->data;
  return 1;
}

static int add_inputs(lossd_call *call, PyObject *inputs, struct loans *loans, int is_again) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  size_t place = 0;
  if (!PyDict_CheckExact(inputs)) return 0;
  loans->buffers = PyMem_Malloc(((size_t)PyDict_Size(inputs) + 1) * sizeof *loans->buffers);
  if (loans->buffers == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  while (PyDict_Next(inputs, &position, &name, &value)) {
    struct tensor tensor;
    if (value == Py_None) continue;
    int outcome = tensor_of(name, value, &tensor, loans);
    if (outcome != 1) return outcome;
    loans->bytes += tensor.bytes;
    if (!is_again) {
      lossd_call_input(call, tensor.name, tensor.type, tensor.rank, tensor.shape, tensor.data);
    } else if (!put_again(call, place++, &tensor)) {
      return 0;
    }
  }
  return !is_again || place == call->input_count;
}

static int add_attribute(lossd_call *call, const char *name, PyObject *value) {
  if (PyBool_Check(value)) {
    lossd_call_set_bool(call, name, value == Py_True);
  } else if (PyLong_CheckExact(value)) {
    int is_outside = 0;
    long long number = PyLong_AsLongLongAndOverflow(value, &is_outside);
    if (is_outside) return 0;
    lossd_call_set_int(call, name, number);
  } else if (PyFloat_CheckExact(value)) {
    lossd_call_set_double(call, name, PyFloat_AsDouble(value));
  } else {
    const char *text = plain_text(value);
    if (text == NULL) return 0;
    lossd_call_set_string(call, name, text);
  }
  return 1;
}

static int add_attributes(lossd_call *call, PyObject *attributes) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  if (attributes == Py_None) return 1;
  if (!PyDict_CheckExact(attributes)) return 0;
  while (PyDict_Next(attributes, &position, &name, &value)) {
    const char *text = plain_text(name);
    if (text == NULL || !add_attribute(call, text, value)) return 0;
  }
  return 1;
}

static int add_output(lossd_call *call, PyObject *name) {
  const char *text = plain_text(name);
  if (text != NULL) lossd_call_output(call, text, NULL, 0);
  return text != NULL;
}

static int add_outputs(lossd_call *call, PyObject *outputs) {
  if (PyUnicode_Check(outputs)) return add_output(call, outputs);
  int is_tuple = PyTuple_Check(outputs);
  if (!is_tuple && !PyList_Check(outputs)) return 0;
  Py_ssize_t count = is_tuple ? PyTuple_Size(outputs) : PyList_Size(outputs);
  for (Py_ssize_t index = 0; index < count; index++) {
    PyObject *name = is_tuple ? PyTuple_GetItem(outputs, index) : PyList_GetItem(outputs, index);
    if (name == NULL) return -1;
    if (!add_output(call, name)) return 0;
  }
  return 1;
}

int fill_call(lossd_call *call, PyObject *inputs, PyObject *attributes, PyObject *outputs, struct loans *loans) {
  int outcome = add_inputs(call, inputs, loans, 0);
  if (outcome == 1) outcome = add_attributes(call, attributes);
  if (outcome == 1) outcome = add_outputs(call, outputs);
  return outcome;
}

static int has_value(const Lossd__V1__Value *value, PyObject *object) {
  if (PyBool_Check(object)) {
    return value->kind_case == LOSSD__V1__VALUE__KIND_BOOL_VALUE && value->bool_value == (object == Py_True);
  }
  if (PyLong_CheckExact(object)) {
    int is_outside = 0;
    long long number = PyLong_AsLongLongAndOverflow(object, &is_outside);
    return value->kind_case == LOSSD__V1__VALUE__KIND_INT_VALUE && !is_outside && value->int_value == number;
  }
  if (PyFloat_CheckExact(object)) {
    double number = PyFloat_AsDouble(object);
    return value->kind_case == LOSSD__V1__VALUE__KIND_FLOAT_VALUE &&
           memcmp(&value->float_value, &number, sizeof number) == 0; /* -0.0 is another value than 0.0 */
  }
  const char *text = plain_text(object);
  return text != NULL && value->kind_case == LOSSD__V1__VALUE__KIND_STRING_VALUE &&
         strcmp(value->string_value, text) == 0;
}

static int has_attributes(const lossd_call *call, PyObject *attributes) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  size_t place = 0;
  if (attributes == Py_None) return call->attribute_count == 0;
  if (!PyDict_CheckExact(attributes) || (size_t)PyDict_Size(attributes) != call->attribute_count) return 0;
  while (PyDict_Next(attributes, &position, &name, &value)) {
    const struct attribute *attribute = &call->attributes[place++];
    const char *text = plain_text(name);
    if (text == NULL || strcmp(attribute->name, text) != 0 || !has_value(&attribute->value, value)) return 0;
  }
  return 1;
}

static int has_outputs(const lossd_call *call, PyObject *outputs) {
  int is_tuple = PyTuple_Check(outputs);
  if (!is_tuple && !PyList_Check(outputs)) return 0;
  size_t count = (size_t)(is_tuple ? PyTuple_Size(outputs) : PyList_Size(outputs)), asked = 0;
  for (size_t index = 0; index < call->result_count; index++) {
    const struct result *result = &call->results[index];
    if (!result->is_asked) continue;
    if (asked == count) return 0;
    Py_ssize_t place = (Py_ssize_t)asked;
    PyObject *name = is_tuple ? PyTuple_GetItem(outputs, place) : PyList_GetItem(outputs, place);
    const char *text = plain_text(name);
    if (text == NULL || strcmp(result->name, text) != 0) return 0;
    asked++;
  }
  return asked == count;
}

int refill_call(lossd_call *call, PyObject *inputs, PyObject *attributes, PyObject *outputs, struct loans *loans) {
  if (!has_attributes(call, attributes) || !has_outputs(call, outputs)) return 0;
  return add_inputs(call, inputs, loans, 1);
}

/* ---- Results ---- */

/* The object that has the result's memory from here on. */
static PyObject *take_memory(struct driver_object *owner, struct result *result) {
  struct segment *segment = result->segment == NULL ? NULL : driver_give(owner->driver, result);
  if (segment != NULL) return memory_of_segment(owner, segment, result->tensor.bytes);
  if (result->owned == NULL || result->tensor.data != result->owned) {
    PyErr_SetString(PyExc_RuntimeError, "the result has been taken");
    return NULL;
  }
  void *owned = result->owned;
  result->owned = NULL;
  result->owned_bytes = 0;
  return memory_new(owned, result->tensor.bytes);
}

PyObject *array_of(struct driver_object *owner, struct result *result, PyObject **memory) {
  PyObject *shape = PyTuple_New((Py_ssize_t)result->tensor.rank);
  for (size_t index = 0; shape != NULL && index < result->tensor.rank; index++) {
    PyObject *size = PyLong_FromLongLong(result->shape[index]);
    if (size == NULL || PyTuple_SetItem(shape, (Py_ssize_t)index, size) != 0) {
      Py_DECREF(shape);
      return NULL;
    }
  }
  if (shape == NULL) return NULL;
  PyObject *bytes = take_memory(owner, result);
  PyObject *dtype = PyTuple_GetItem(given.dtypes, result->tensor.type);
  PyObject *array = NULL;
  if (bytes != NULL && dtype != NULL) {
    array = PyObject_CallFunctionObjArgs(given.ndarray, shape, dtype, bytes, NULL);
  }
  if (array != NULL && result->tensor.type == LOSSD_BFLOAT16) {
    PyObject *bits = array;
    array = PyObject_CallFunctionObjArgs(given.bfloat16, bits, NULL);
    Py_DECREF(bits);
  }
  Py_DECREF(shape);
  if (memory != NULL && array != NULL) {
    *memory = bytes;
  } else {
    Py_XDECREF(bytes);
  }
  return array;
}

PyObject *results_of(struct driver_object *owner, lossd_call *call) {
  PyObject *results = PyDict_New();
  for (size_t index = 0; results != NULL && index < call->result_count; index++) {
    struct result *result = &call->results[index];
    if (!result->is_present) continue;
    PyObject *array = array_of(owner, result, NULL);
    int is_set = array != NULL && PyDict_SetItemString(results, result->name, array) == 0;
    Py_XDECREF(array);
    if (!is_set) Py_CLEAR(results);
  }
  return results;
}
