internal import CLossdLanes

// Elements to and from the lanes' type. Widening is exact; narrowing rounds to nearest, ties to even.

func widenElements(_ x: Input, _ y: Scratch, _ count: Int) {
  eachVector(count) {
    put(load(x, $0), y, $0)
  } rest: { first, rest in
    var i = first
    while i < first &+ rest {
      y[i] = element_widened(x[i])
      i &+= 1
    }
  }
}

func narrowElements(_ x: UnsafePointer<Scalar>, _ y: Output, _ count: Int) {
  eachVector(count) {
    lanes_store_any(y + $0, fetch(x, $0))
  } rest: { first, rest in
    var i = first
    while i < first &+ rest {
      y[i] = element_narrowed(x[i])
      i &+= 1
    }
  }
}
