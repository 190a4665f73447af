/* Shared memory: mappings of what a daemon sends. */
#ifndef LOSSD_MAPPING_H
#define LOSSD_MAPPING_H

#include "core/segment.h"

/* What a core does with it, by system calls. */
const struct core_memory *mapping_memory(void);

#endif
