// float16 and bfloat16 to and from float32. Widening is exact; narrowing rounds to nearest, ties to even.

func widenHalf(_ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
  var i = 0
  while i &+ 8 <= count {
    let half = UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<Float16>.self)
    store(
      Lanes(
        Float(half[0]), Float(half[1]), Float(half[2]), Float(half[3]), Float(half[4]),
        Float(half[5]), Float(half[6]), Float(half[7])), y, i)
    i &+= 8
  }
  while i < count {
    y[i] = Float(Float16(bitPattern: x[i]))
    i &+= 1
  }
}

func narrowHalf(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ count: Int) {
  var i = 0
  while i &+ 8 <= count {
    let v = load(x, i)
    UnsafeMutableRawPointer(y + i).storeBytes(
      of: SIMD8<Float16>(
        Float16(v[0]), Float16(v[1]), Float16(v[2]), Float16(v[3]), Float16(v[4]),
        Float16(v[5]), Float16(v[6]), Float16(v[7])), as: SIMD8<Float16>.self)
    i &+= 8
  }
  while i < count {
    y[i] = Float16(x[i]).bitPattern
    i &+= 1
  }
}

func widenBFloat(_ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
  var i = 0
  while i &+ 8 <= count {
    let h = UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<UInt16>.self)
    let wide = SIMD8<UInt32>(
      UInt32(h[0]), UInt32(h[1]), UInt32(h[2]), UInt32(h[3]), UInt32(h[4]), UInt32(h[5]),
      UInt32(h[6]), UInt32(h[7]))
    store(unsafeBitCast(wide &<< 16, to: Lanes.self), y, i)
    i &+= 8
  }
  while i < count {
    y[i] = Float(bitPattern: UInt32(x[i]) &<< 16)
    i &+= 1
  }
}

func narrowBFloat(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ count: Int) {
  var i = 0
  while i < count {
    let bits = x[i].bitPattern
    // The sum would carry a NaN of many bits over into a number.
    y[i] =
      x[i] != x[i]
      ? UInt16(truncatingIfNeeded: bits &>> 16) | 0x40
      : UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits &>> 16) & 1)) &>> 16)
    i &+= 1
  }
}
