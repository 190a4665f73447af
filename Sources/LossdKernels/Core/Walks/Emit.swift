// How results are written: through the cache, or past it where they are so large that nobody finds them
// there again. Writing through the cache first reads each line that is written, past it does not.
internal import CLossdLanes

/// Writes `count` >= `width` elements; `value(i)` gives the `width` of them that begin at i, and is called
/// for the last ones before anything is written, so that `y` may be what it reads.
@inline(__always)
func emit(_ y: Output, _ count: Int, _ value: (Int) -> Lanes) {
  let last = value(count &- width)
  var i = 0
  while i &+ width < count {
    store(value(i), y, i)
    i &+= width
  }
  store(last, y, count &- width)
}

/// The same past the cache; `y` is not what `value` reads. `seam` is the line that this row begins in, and
/// then that it ends in.
@inline(__always)
func emitPast(_ y: Output, _ count: Int, _ seam: inout Seam, _ value: (Int) -> Lanes) {
  var i = misalignment(y)
  if i > 0 { seam.begin(y, i, value(0)) }
  while i &+ width <= count {
    lanes_stream(y + i, value(i))
    i &+= width
  }
  if i < count { seam.end(y + i, count &- i, value(count &- width)) }
}

/// The same of a row by itself.
@inline(__always)
func emitPast(_ y: Output, _ count: Int, _ value: (Int) -> Lanes) {
  var seam = Seam()
  emitPast(y, count, &seam, value)
  seam.flush()
}

/// `emit` to two tensors at once.
@inline(__always)
func emit(_ y: Output, _ z: Output, _ count: Int, _ value: (Int) -> (Lanes, Lanes)) {
  let last = value(count &- width)
  var i = 0
  while i &+ width < count {
    let (a, b) = value(i)
    store(a, y, i)
    store(b, z, i)
    i &+= width
  }
  store(last.0, y, count &- width)
  store(last.1, z, count &- width)
}

/// `emitPast` to two tensors at once that are aligned alike.
@inline(__always)
func emitPast(
  _ y: Output, _ z: Output, _ count: Int, _ seams: inout (Seam, Seam),
  _ value: (Int) -> (Lanes, Lanes)
) {
  var i = misalignment(y)
  if i > 0 {
    let (a, b) = value(0)
    seams.0.begin(y, i, a)
    seams.1.begin(z, i, b)
  }
  while i &+ width <= count {
    let (a, b) = value(i)
    lanes_stream(y + i, a)
    lanes_stream(z + i, b)
    i &+= width
  }
  if i < count {
    let (a, b) = value(count &- width)
    seams.0.end(y + i, count &- i, a)
    seams.1.end(z + i, count &- i, b)
  }
}

/// Elements up to the next address that a vector can be streamed to.
@inline(__always)
func misalignment(_ y: Output) -> Int {
  let bytes = MemoryLayout<Element>.size &* width
  return ((bytes &- (Int(bitPattern: y) & (bytes &- 1))) & (bytes &- 1))
    / MemoryLayout<Element>.size
}

/// Lanes `from ..< to` to the elements of the same numbers.
@inline(__always)
func storePart(_ value: Lanes, _ y: Output, _ from: Int, _ to: Int) {
  lanes_store_part(y, value, from, to)
}

/// `value`, whose lanes begin at element `i`, with `own` in place of element `place` if that is among them.
@inline(__always)
func replacing(_ value: Lanes, _ i: Int, _ place: Int, _ own: Scalar) -> Lanes {
  let lane = place &- i
  return UInt(bitPattern: lane) < UInt(bitPattern: width) ? lanes_with(value, lane, own) : value
}

/// Whether a result takes the place of what it is computed from.
@inline(__always)
func isAt(_ y: UnsafeMutableRawPointer?, _ x: UnsafeRawPointer) -> Bool {
  if let y { return UnsafeRawPointer(y) == x }
  return false
}

/// Whether two tensors can be written past the cache together.
@inline(__always)
func areAlike(_ a: Output?, _ b: Output?) -> Bool {
  guard let a, let b else { return true }
  return misalignment(a) == misalignment(b)
}
