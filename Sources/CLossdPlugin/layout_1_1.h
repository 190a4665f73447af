/* What plugin.h 1.1 added. Never changed. */
CONSTANT(LOSSD_PLANNED_SEPARATE, 4)
