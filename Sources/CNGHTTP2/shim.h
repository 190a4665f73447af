// malloc.h: what nghttp2 allocates is counted by what malloc gave.
#include <malloc.h>
#include <nghttp2/nghttp2.h>
