/* lanes.h is all there is; a package's C target needs a file. */
#include "lanes.h"
