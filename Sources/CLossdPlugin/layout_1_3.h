/* What plugin.h 1.3 added. Never changed. */
FIELD(lossd_chunk, sums, 40, 8)
FIELD(lossd_host, add_to_sum, 32, 8)
FIELD(lossd_function, accumulator_kinds, 128, 8)
CONSTANT(LOSSD_PLAIN, 0)
CONSTANT(LOSSD_SUM, 1)
