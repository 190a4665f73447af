#ifndef LOSSD_DESCRIPTORS_H
#define LOSSD_DESCRIPTORS_H
#include <stddef.h>

// The descriptors of proto/, for server reflection.

// A file: its name, and its google.protobuf.FileDescriptorProto in bytes.
typedef struct {
  const char *name;
  const unsigned char *bytes;
  size_t count;
} lossd_descriptor_file;

// A full name that a file declares, and the file's place among them. Sorted by names.
typedef struct {
  const char *name;
  size_t file;
} lossd_descriptor_symbol;

extern const size_t lossd_descriptor_file_count;
extern const size_t lossd_descriptor_symbol_count;

// `index` is below the count.
const lossd_descriptor_file *lossd_descriptor_file_at(size_t index);
const lossd_descriptor_symbol *lossd_descriptor_symbol_at(size_t index);

#endif
