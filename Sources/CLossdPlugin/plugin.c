/* plugin.h is all there is to this target. Compiling this file proves that its layout is the one that plugins
 * were compiled with: whoever changes a struct breaks the build here, unless it is by a new version.
 *
 * To grow the ABI: put new fields at the end of a struct that begins with struct_size (or give `reserved` a
 * meaning), raise LOSSD_ABI_MINOR, write layout_1_N.h with what is new, include it below, and keep a copy of
 * the header before the change in Tests/System/abi, which a test builds plugins against for ever. */
#include "lossd/plugin.h"

#if LOSSD_ABI_MAJOR != 1 || LOSSD_ABI_MINOR != 3
#error "plugin.h has a version whose layout is written down nowhere: see the comment above"
#endif

#define FIXED(type, bytes) \
  _Static_assert(sizeof(type) == (bytes), #type " is no longer " #bytes " bytes: that takes a new major version");
#if LOSSD_ABI_MINOR == 0
#define GROWS(type, bytes) \
  _Static_assert(sizeof(type) == (bytes), #type " is no longer " #bytes " bytes: raise LOSSD_ABI_MINOR");
#else
#define GROWS(type, bytes) _Static_assert(sizeof(type) >= (bytes), #type " has shrunk");
#endif
#define FIELD(type, field, offset, bytes)                                                          \
  _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved from " #offset); \
  _Static_assert(sizeof(((type *)0)->field) == (bytes),                                         \
                 #type "." #field " is no longer " #bytes " bytes");
#define CONSTANT(name, value) _Static_assert((name) == (value), #name " is no longer " #value);

#include "layout_1_0.h"
#include "layout_1_1.h"
#include "layout_1_2.h"
#include "layout_1_3.h"
