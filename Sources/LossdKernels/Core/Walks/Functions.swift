// The elementary functions by themselves.
internal import CLossdLanes

@inline(__always)
private func eachElement(_ x: Input, _ y: Output, _ count: Int, _ function: (Lanes) -> Lanes) {
  eachVector(count) {
    store(function(load(x, $0)), y, $0)
  } rest: { first, rest in
    lanes_store_first(y + first, function(lanes_load_part(x + first, rest)), rest)
  }
}

func expElements(_ x: Input, _ y: Output, _ count: Int) { eachElement(x, y, count) { exp($0) } }

/// factor exp(x).
func weightedExpElements(_ x: Input, _ y: Output, _ count: Int, _ factor: Double) {
  // A NaN's last bits are zeros, as `store` wants them.
  let factor: Scalar = factor.isNaN ? .nan : Scalar(factor)
  eachElement(x, y, count) { exp($0) * factor }
}

func logElements(_ x: Input, _ y: Output, _ count: Int) { eachElement(x, y, count) { log($0) } }

func log1pElements(_ x: Input, _ y: Output, _ count: Int) {
  eachElement(x, y, count) { log1pOfAny($0) }
}
