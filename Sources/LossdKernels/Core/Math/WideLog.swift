import Glibc

/// log in float64; one a row, so libm's will do.
@inline(always)
func wideLog(_ x: Double) -> Double { Glibc.log(x) }
