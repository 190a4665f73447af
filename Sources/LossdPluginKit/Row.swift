/// A row of numbers, borrowed for the call that it is given to.
@frozen public struct Row<T: LossScalar> {
  public let base: UnsafePointer<T>
  public let count: Int

  @inlinable @inline(__always) init(_ base: UnsafePointer<T>, _ count: Int) {
    self.base = base
    self.count = count
  }

  /// A row that was written, to be read.
  @inlinable @inline(__always) public init(_ row: MutableRow<T>) {
    self.init(UnsafePointer(row.base), row.count)
  }

  /// Not checked: `index` is in 0 ..< count.
  @inlinable @inline(__always) public subscript(index: Int) -> T { base[index] }

  /// The sum of `body` over the elements, in float64; `body` is called in loops that become
  /// vectors.
  @inlinable @inline(__always)
  public func sum(_ body: (T) -> T) -> Double {
    withUnsafeTemporaryAllocation(of: T.self, capacity: 64) { part in
      // Of a capacity over 0 there is memory.
      let part = part.baseAddress.unsafelyUnwrapped
      var total = 0.0
      var at = 0
      while at < count {
        let size = Swift.min(64, count &- at)
        var i = 0
        while i < size {
          part[i] = body(base[at &+ i])
          i &+= 1
        }
        total += sumOf(part, size)
        at &+= 64
      }
      return total
    }
  }

  /// The largest element; NaN where one is. Of a row without elements -infinity.
  @inlinable
  public func max() -> T {
    let low = -T.infinity
    var (a, b, c, d, e, f, g, h) = (low, low, low, low, low, low, low, low)
    // What any NaN makes NaN, and nothing else.
    var (s, t, u, v) = (T(0.0), T(0.0), T(0.0), T(0.0))
    var i = 0
    while i &+ 8 <= count {
      let (p, q, r, w) = (base[i], base[i &+ 1], base[i &+ 2], base[i &+ 3])
      let (k, l, m, n) = (base[i &+ 4], base[i &+ 5], base[i &+ 6], base[i &+ 7])
      a = a < p ? p : a
      b = b < q ? q : b
      c = c < r ? r : c
      d = d < w ? w : d
      e = e < k ? k : e
      f = f < l ? l : f
      g = g < m ? m : g
      h = h < n ? n : h
      s = s + (p == p ? 0 : p) + (k == k ? 0 : k)
      t = t + (q == q ? 0 : q) + (l == l ? 0 : l)
      u = u + (r == r ? 0 : r) + (m == m ? 0 : m)
      v = v + (w == w ? 0 : w) + (n == n ? 0 : n)
      i &+= 8
    }
    while i < count {
      a = a < base[i] ? base[i] : a
      s = s + (base[i] == base[i] ? 0 : base[i])
      i &+= 1
    }
    var result = low
    for lane in [a, b, c, d, e, f, g, h] { result = result < lane ? lane : result }
    let mark = s + t + u + v
    return mark == mark ? result : mark
  }
}

/// A row to write.
@frozen public struct MutableRow<T: LossScalar> {
  public let base: UnsafeMutablePointer<T>
  public let count: Int

  @inlinable @inline(__always) init(_ base: UnsafeMutablePointer<T>, _ count: Int) {
    self.base = base
    self.count = count
  }

  /// Not checked: `index` is in 0 ..< count.
  @inlinable @inline(__always) public subscript(index: Int) -> T {
    get { base[index] }
    nonmutating set { base[index] = newValue }
  }

  /// Sets every element to `body` of the one of `x` at the same place, in a loop that becomes
  /// vectors.
  @inlinable @inline(__always)
  public func set(from x: Row<T>, _ body: (T) -> T) {
    var i = 0
    while i < count {
      base[i] = body(x.base[i])
      i &+= 1
    }
  }

  /// The same of two rows.
  @inlinable @inline(__always)
  public func set(from x: Row<T>, _ y: Row<T>, _ body: (T, T) -> T) {
    var i = 0
    while i < count {
      base[i] = body(x.base[i], y.base[i])
      i &+= 1
    }
  }
}
