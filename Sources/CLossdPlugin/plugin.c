/* plugin.h is all there is; SwiftPM wants a source. */
#include "lossd/plugin.h"
