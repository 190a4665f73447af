// float16 and bfloat16 to and from float32. Widening is exact; narrowing rounds to nearest, ties to even.

#if !LOSSD_DOUBLE
  func widenHalf(_ x: UnsafeRawPointer, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
    var i = 0
    while i &+ 8 <= count {
      let h = (x + 2 &* i).loadUnaligned(as: SIMD8<Float16>.self)
      let v = SIMD8<Float>(
        Float(h[0]), Float(h[1]), Float(h[2]), Float(h[3]), Float(h[4]), Float(h[5]), Float(h[6]),
        Float(h[7]))
      UnsafeMutableRawPointer(y + i).storeBytes(of: v, as: SIMD8<Float>.self)
      i &+= 8
    }
    while i < count {
      y[i] = Float((x + 2 &* i).loadUnaligned(as: Float16.self))
      i &+= 1
    }
  }

  func narrowHalf(_ x: UnsafePointer<Float>, _ y: UnsafeMutableRawPointer, _ count: Int) {
    var i = 0
    while i &+ 8 <= count {
      let v = UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<Float>.self)
      (y + 2 &* i).storeBytes(
        of: SIMD8<Float16>(
          Float16(v[0]), Float16(v[1]), Float16(v[2]), Float16(v[3]), Float16(v[4]),
          Float16(v[5]), Float16(v[6]), Float16(v[7])), as: SIMD8<Float16>.self)
      i &+= 8
    }
    while i < count {
      (y + 2 &* i).storeBytes(of: Float16(x[i]), as: Float16.self)
      i &+= 1
    }
  }

  func widenBFloat(_ x: UnsafeRawPointer, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
    var i = 0
    while i &+ 8 <= count {
      let h = (x + 2 &* i).loadUnaligned(as: SIMD8<UInt16>.self)
      let wide = SIMD8<UInt32>(
        UInt32(h[0]), UInt32(h[1]), UInt32(h[2]), UInt32(h[3]), UInt32(h[4]), UInt32(h[5]),
        UInt32(h[6]), UInt32(h[7]))
      UnsafeMutableRawPointer(y + i).storeBytes(of: wide &<< 16, as: SIMD8<UInt32>.self)
      i &+= 8
    }
    while i < count {
      let bits = UInt32((x + 2 &* i).loadUnaligned(as: UInt16.self)) &<< 16
      y[i] = Float(bitPattern: bits)
      i &+= 1
    }
  }

  func narrowBFloat(_ x: UnsafePointer<Float>, _ y: UnsafeMutableRawPointer, _ count: Int) {
    var i = 0
    while i < count {
      let bits = x[i].bitPattern
      // The sum would carry a NaN of many bits over into a number.
      let narrow =
        x[i] != x[i]
        ? UInt16(truncatingIfNeeded: bits &>> 16) | 0x40
        : UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits &>> 16) & 1)) &>> 16)
      (y + 2 &* i).storeBytes(of: narrow, as: UInt16.self)
      i &+= 1
    }
  }
#endif
