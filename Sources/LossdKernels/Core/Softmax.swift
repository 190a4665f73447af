import LossdKernelTable

// Softmax and log-softmax, forward and backward, along rows and along columns. Rows of up to 32
// elements are computed a vector's width of them at a time, turned into columns of a tile on the stack.

/// Rows up to this many elements are computed `width` at a time.
let shortRow = 32

/// A tile of `width` columns of `shortRow` elements, on the stack.
struct Tile {
  private var storage:
    (
      Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes,
      Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes,
      Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes,
      Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes
    )

  @inline(__always)
  init() {
    let zero = Lanes(repeating: 0)
    storage = (
      zero, zero, zero, zero, zero, zero, zero, zero,
      zero, zero, zero, zero, zero, zero, zero, zero,
      zero, zero, zero, zero, zero, zero, zero, zero,
      zero, zero, zero, zero, zero, zero, zero, zero
    )
  }

  @inline(__always)
  mutating func pointer() -> UnsafeMutablePointer<Float> {
    // The tile lives on the caller's stack as long as the caller uses this pointer.
    withUnsafeMutablePointer(to: &storage) {
      UnsafeMutableRawPointer($0).assumingMemoryBound(to: Float.self)
    }
  }
}

/// `width` rows of `columns` elements as columns of a tile.
@inline(__always)
func turnIn(_ x: UnsafePointer<Float>, _ columns: Int, _ tile: UnsafeMutablePointer<Float>) {
  var c = 0
  while c < columns {
    store(gather(x + c, columns), tile, width &* c)
    c &+= 1
  }
}

@inline(__always)
func turnOut(_ tile: UnsafePointer<Float>, _ columns: Int, _ y: UnsafeMutablePointer<Float>) {
  var c = 0
  while c < columns {
    scatter(load(tile, width &* c), y + c, columns)
    c &+= 1
  }
}

/// Maximum and sum of exponentials of `width` columns; the exponentials go to `y` unless it is nil.
@inline(__always)
func columnSums(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>?, _ size: Int, _ stride: Int
) -> (maximum: Lanes, low: Wide, high: Wide) {
  var m = Lanes(repeating: -.infinity)
  var c = 0
  while c < size {
    m = larger(m, load(x, c &* stride))
    c &+= 1
  }
  var low = Wide(repeating: 0)
  var high = Wide(repeating: 0)
  c = 0
  while c &+ 4 <= size {
    let p = x + c &* stride
    let e0 = expNonPositive(load(p, 0) - m)
    let e1 = expNonPositive(load(p, stride) - m)
    let e2 = expNonPositive(load(p, 2 &* stride) - m)
    let e3 = expNonPositive(load(p, 3 &* stride) - m)
    if let y {
      let q = y + c &* stride
      store(e0, q, 0)
      store(e1, q, stride)
      store(e2, q, 2 &* stride)
      store(e3, q, 3 &* stride)
    }
    add((e0 + e1) + (e2 + e3), to: &low, &high)
    c &+= 4
  }
  while c < size {
    let e = expNonPositive(load(x, c &* stride) - m)
    if let y { store(e, y, c &* stride) }
    add(e, to: &low, &high)
    c &+= 1
  }
  return (m, low, high)
}

// MARK: - Forward

@inline(__always)
private func softmaxVector(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int
) {
  let (_, low, high) = columnSums(x, y, size, stride)
  let factor = narrowed(1 / low, 1 / high)
  var c = 0
  while c < size {
    store(load(y, c &* stride) * factor, y, c &* stride)
    c &+= 1
  }
}

@inline(__always)
private func logSoftmaxVector(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int
) {
  let (m, low, high) = columnSums(x, nil, size, stride)
  let logarithm = logOfSum(narrowed(low, high))
  var c = 0
  while c < size {
    store((load(x, c &* stride) - m) - logarithm, y, c &* stride)
    c &+= 1
  }
}

/// The logarithm of a sum of exponentials, which is at least 1 or NaN.
@inline(__always)
func logOfSum(_ sum: Lanes) -> Lanes {
  logOfAtLeastOne(sum).replacing(with: sum, where: sum .!= sum)
}

@inline(__always)
private func softmaxRow(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int
) {
  let sum = sumOfExponentials(x, count, maximum(x, count), y)
  scale(y, count, Float(1 / sum))
}

@inline(__always)
private func logSoftmaxRow(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int
) {
  let m = maximum(x, count)
  let logarithm = logOfSum(Lanes(repeating: Float(sumOfExponentials(x, count, m, nil))))[0]
  var i = 0
  while i &+ width <= count {
    store((load(x, i) - m) - logarithm, y, i)
    i &+= width
  }
  while i < count {
    y[i] = (x[i] - m) - logarithm
    i &+= 1
  }
}

func softmaxRows(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int
) {
  var row = 0
  if columns <= shortRow {
    var tile = Tile()
    let t = tile.pointer()
    while row &+ width <= rows {
      turnIn(x + row &* columns, columns, t)
      softmaxVector(t, t, columns, width)
      turnOut(t, columns, y + row &* columns)
      row &+= width
    }
  }
  while row < rows {
    softmaxRow(x + row &* columns, y + row &* columns, columns)
    row &+= 1
  }
}

func logSoftmaxRows(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int
) {
  var row = 0
  if columns <= shortRow {
    var tile = Tile()
    let t = tile.pointer()
    while row &+ width <= rows {
      turnIn(x + row &* columns, columns, t)
      logSoftmaxVector(t, t, columns, width)
      turnOut(t, columns, y + row &* columns)
      row &+= width
    }
  }
  while row < rows {
    logSoftmaxRow(x + row &* columns, y + row &* columns, columns)
    row &+= 1
  }
}

func softmaxColumns(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int,
  _ columns: Int
) {
  eachVector(columns) {
    softmaxVector(x + $0, y + $0, size, stride)
  } rest: {
    softmaxOne(x + $0, y + $0, size, stride)
  }
}

func logSoftmaxColumns(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int,
  _ columns: Int
) {
  eachVector(columns) {
    logSoftmaxVector(x + $0, y + $0, size, stride)
  } rest: {
    logSoftmaxOne(x + $0, y + $0, size, stride)
  }
}

/// Columns a vector at a time, then one by one.
@inline(__always)
func eachVector(_ columns: Int, _ vector: (Int) -> Void, rest: (Int) -> Void) {
  var column = 0
  while column &+ width <= columns {
    vector(column)
    column &+= width
  }
  while column < columns {
    rest(column)
    column &+= 1
  }
}

/// One column whose neighbours are not the call's: in every lane the same.
private func softmaxOne(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int
) {
  let (m, sum) = oneColumnSums(x, size, stride)
  let factor = Float(1 / sum)
  var c = 0
  while c < size {
    y[c &* stride] = expNonPositive(Lanes(repeating: x[c &* stride] - m))[0] * factor
    c &+= 1
  }
}

private func logSoftmaxOne(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int
) {
  let (m, sum) = oneColumnSums(x, size, stride)
  let logarithm = logOfSum(Lanes(repeating: Float(sum)))[0]
  var c = 0
  while c < size {
    y[c &* stride] = (x[c &* stride] - m) - logarithm
    c &+= 1
  }
}

@inline(__always)
func oneColumnSums(
  _ x: UnsafePointer<Float>, _ size: Int, _ stride: Int
) -> (maximum: Float, sum: Double) {
  var m = -Float.infinity
  var c = 0
  while c < size {
    if x[c &* stride] > m { m = x[c &* stride] }
    c &+= 1
  }
  var sum = 0.0
  c = 0
  while c < size {
    sum += Double(expNonPositive(Lanes(repeating: x[c &* stride] - m))[0])
    c &+= 1
  }
  return (m, sum)
}
