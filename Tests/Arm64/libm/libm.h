/* What the kernels take from the C library. */
double log(double);
