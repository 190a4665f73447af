// float16 and bfloat16 to and from float32. Widening is exact; narrowing rounds to nearest, ties to even.
// Plain loops: the compiler turns them into the processor's conversions.

func widenHalf(_ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
  var i = 0
  while i < count {
    y[i] = Float(Float16(bitPattern: x[i]))
    i &+= 1
  }
}

func narrowHalf(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ count: Int) {
  var i = 0
  while i < count {
    y[i] = Float16(x[i]).bitPattern
    i &+= 1
  }
}

func widenBFloat(_ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
  var i = 0
  while i < count {
    y[i] = Float(bitPattern: UInt32(truncatingIfNeeded: x[i]) &<< 16)
    i &+= 1
  }
}

func narrowBFloat(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ count: Int) {
  var i = 0
  while i < count {
    let bits = x[i].bitPattern
    let rounded = (bits &+ 0x7FFF &+ ((bits &>> 16) & 1)) &>> 16
    // The sum would carry a NaN of many bits over into a number.
    let quiet = (bits &>> 16) | 0x40
    y[i] = UInt16(truncatingIfNeeded: x[i] != x[i] ? quiet : rounded)
    i &+= 1
  }
}
