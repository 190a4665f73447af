// Up to `width` columns next to one another, one a lane: element c of a column is `stride` behind element
// c - 1. Rows of few elements become such columns by being turned in a tile on the stack.

/// Rows up to this many elements are computed `width` at a time.
let shortRow = 32

/// A tile of `width` columns of `shortRow` elements.
struct Tile {
  private typealias Eight = (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes)
  private var storage: (Eight, Eight, Eight, Eight)

  @inline(always)
  init() {
    let z = Lanes(repeating: 0)
    let eight = (z, z, z, z, z, z, z, z)
    storage = (eight, eight, eight, eight)
  }

  @inline(always)
  mutating func pointer() -> Output {
    // The tile lives on the caller's stack as long as the caller uses this pointer.
    withUnsafeMutablePointer(to: &storage) {
      UnsafeMutableRawPointer($0).assumingMemoryBound(to: Scalar.self)
    }
  }
}

/// `width` rows of `columns` elements into columns of a tile.
@inline(always)
func turnIn(_ x: Input, _ n: Int, _ tile: Output) {
  var c = 0
  while c < n {
    let p = x + c
    #if LOSSD_AVX512 && !LOSSD_DOUBLE
      let v = Lanes(
        p[0], p[n], p[2 &* n], p[3 &* n], p[4 &* n], p[5 &* n], p[6 &* n], p[7 &* n], p[8 &* n],
        p[9 &* n], p[10 &* n], p[11 &* n], p[12 &* n], p[13 &* n], p[14 &* n], p[15 &* n])
    #elseif LOSSD_AVX512 || !LOSSD_DOUBLE
      let v = Lanes(
        p[0], p[n], p[2 &* n], p[3 &* n], p[4 &* n], p[5 &* n], p[6 &* n], p[7 &* n])
    #else
      let v = Lanes(p[0], p[n], p[2 &* n], p[3 &* n])
    #endif
    store(v, tile, width &* c)
    c &+= 1
  }
}

@inline(always)
func turnOut(_ tile: Input, _ n: Int, _ y: Output) {
  var c = 0
  while c < n {
    let v = load(tile, width &* c)
    let p = y + c
    var lane = 0
    while lane < width {
      p[lane &* n] = v[lane]
      lane &+= 1
    }
    c &+= 1
  }
}

/// Calls `group` with the first column and the number of columns, `width` or, at the end, fewer.
@inline(always)
func eachGroup(_ columns: Int, _ group: (Int) -> Void, rest: (Int, Int) -> Void) {
  var column = 0
  while column &+ width <= columns {
    group(column)
    column &+= width
  }
  if column < columns { rest(column, columns &- column) }
}

@inline(always)
func columnMaxima(_ x: Input, _ size: Int, _ stride: Int, _ count: Int) -> Lanes {
  var a = Lanes(repeating: -.infinity)
  var b = a
  var c = 0
  while c &+ 2 <= size {
    a = larger(a, load(x, c &* stride, count: count))
    b = larger(b, load(x, (c &+ 1) &* stride, count: count))
    c &+= 2
  }
  if c < size { a = larger(a, load(x, c &* stride, count: count)) }
  return larger(a, b)
}

/// Maximum and sum of exponentials of `count` columns; the exponentials go to `y` unless it is nil.
@inline(always)
func columnSums(
  _ x: Input, _ y: Output?, _ size: Int, _ stride: Int, _ count: Int
) -> (maximum: Lanes, sums: Sums) {
  let m = columnMaxima(x, size, stride, count)
  var sums = Sums()
  var c = 0
  while c < size {
    let e = expNonPositive(load(x, c &* stride, count: count) - m)
    if let y { store(e, y, c &* stride, count: count) }
    sums.add(e)
    c &+= 1
  }
  return (m, sums)
}

/// The logarithms of sums of exponentials, which are at least 1 or NaN, in two parts: in the first a
/// sum little over 1 has lost what the second holds.
@inline(always)
func logOfSums(_ sums: Sums) -> (high: Lanes, low: Lanes) {
  let high = logOfAtLeastOne(sums.high).replacing(with: sums.high, where: sums.high .!= sums.high)
  return (high, sums.low / sums.high)
}

@inline(always)
func offset(_ base: Input?, _ index: Int) -> Input? {
  if let base { return base + index }
  return nil
}

/// What the sums of a group of columns come to; in memory, for code that reads it lane by lane.
struct ColumnStatistics {
  var maximum = Lanes(repeating: 0)
  var sums = Sums()
  var logHigh = Lanes(repeating: 0)
  var logLow = Lanes(repeating: 0)

  @inline(always)
  func logarithm(_ lane: Int) -> Double {
    #if LOSSD_DOUBLE
      // libm's is nearer to the truth.
      RowTotal(high: sums.high[lane], low: sums.low[lane]).logarithm
    #else
      Double(logHigh[lane]) + Double(logLow[lane])
    #endif
  }
}

/// The statistics of `count` columns; the exponentials go to `y` unless it is nil.
@inline(never)
func columnStatistics(
  _ x: Input, _ y: Output?, _ size: Int, _ stride: Int, _ count: Int,
  into result: inout ColumnStatistics
) {
  if count < width {
    someStatistics(x, y, size, stride, count, &result)
  } else if let y {
    storedStatistics(x, y, size, stride, &result)
  } else {
    statistics(x, size, stride, &result)
  }
}

@inline(never)
private func someStatistics(
  _ x: Input, _ y: Output?, _ size: Int, _ stride: Int, _ count: Int,
  _ result: inout ColumnStatistics
) {
  (result.maximum, result.sums) = columnSums(x, y, size, stride, count)
  (result.logHigh, result.logLow) = logOfSums(result.sums)
}

@inline(never)
private func storedStatistics(
  _ x: Input, _ y: Output, _ size: Int, _ stride: Int, _ result: inout ColumnStatistics
) {
  (result.maximum, result.sums) = columnSums(x, y, size, stride, width)
  (result.logHigh, result.logLow) = logOfSums(result.sums)
}

@inline(never)
private func statistics(
  _ x: Input, _ size: Int, _ stride: Int, _ result: inout ColumnStatistics
) {
  (result.maximum, result.sums) = columnSums(x, nil, size, stride, width)
  (result.logHigh, result.logLow) = logOfSums(result.sums)
}

/// Each column times its factor.
@inline(never)
func scaleColumns(
  _ y: Output, _ size: Int, _ stride: Int, _ count: Int, _ factors: inout Lanes
) {
  let f = factors
  var c = 0
  if count == width {
    while c < size {
      store(load(y, c &* stride) * f, y, c &* stride)
      c &+= 1
    }
  }
  while c < size {
    store(load(y, c &* stride, count: count) * f, y, c &* stride, count: count)
    c &+= 1
  }
}
