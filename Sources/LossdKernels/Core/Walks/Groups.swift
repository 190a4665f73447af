// A group: as many rows as there are lanes, in the form of a tile.
internal import CLossdLanes
import LossdKernelTable

/// Memory for the groups of a call: tiles on the stack. A group's elements are all written, zeros
/// in empty lanes, before any is read.
struct GroupMemory {
  private var first = Tile.unset
  private var second = Tile.unset
  private var third = Tile.unset
  private var fourth = Tile.unset
  private var padded = lane_labels(repeating: -1)

  @inline(__always)
  init() {}

  /// The tiles, which live as long as the caller keeps this memory.
  @inline(__always)
  mutating func tiles() -> GroupTiles {
    GroupTiles(
      tile: first.pointer(), second: second.pointer(), flat: third.pointer(),
      exponentials: fourth.pointer(),
      labels: withUnsafeMutablePointer(to: &padded) {
        UnsafeMutableRawPointer($0).assumingMemoryBound(to: Int32.self)
      })
  }
}

struct GroupTiles {
  /// The group itself; another tensor of it; rows as they lie in memory.
  let tile: Scratch
  let second: Scratch
  let flat: Scratch
  let exponentials: Scratch
  /// A label for each lane.
  let labels: UnsafeMutablePointer<Int32>
}

@inline(__always)
func groupMaximum(_ tile: Scratch, _ size: Int) -> Lanes {
  var a = all(-.infinity)
  var b = a
  var c = 0
  while c &+ 2 <= size {
    a = larger(a, fetch(tile, c &* width))
    b = larger(b, fetch(tile, (c &+ 1) &* width))
    c &+= 2
  }
  if c < size { a = larger(a, fetch(tile, c &* width)) }
  return larger(a, b)
}

/// The sums of exp(x - m); the lifted exponentials go to `goal`, which may be the tile itself.
@inline(__always)
func groupExponentials(
  _ tile: Scratch, _ size: Int, _ m: Lanes, to goal: Scratch?
) -> ExponentialSums {
  var sums = ExponentialSums()
  eachElement(size) {
    let e = liftedExp(fetch(tile, $0) - m)
    if let goal { put(e, goal, $0) }
    sums.add(e)
  }
  return sums
}

/// Calls `body` with the place in a tile of each element.
@inline(__always)
func eachElement(_ size: Int, _ body: (Int) -> Void) {
  var index = 0
  while index < size {
    body(index &* width)
    index &+= 1
  }
}

/// Short contiguous rows, `width` at a time, in and out of tiles: `body` gets the number of the
/// first row and how many there are. The last ones, if fewer, are copied to where there is room for
/// all lanes.
@inline(__always)
func eachGroup(_ rows: StridedRows, _ body: (Int, Int) -> Void) {
  var row = 0
  while row < rows.count {
    let count = rows.count &- row
    body(row, count < width ? count : width)
    row &+= width
  }
}

/// `count` short rows into a tile.
@inline(__always)
func bringGroup(_ x: Input, _ rows: StridedRows, _ row: Int, _ count: Int, _ tile: Scratch) {
  let start = x + row &* rows.step
  if count == width && rows.step == rows.size {
    turnIn(start, rows.size, tile)
  } else {
    bringSome(start, rows, count, tile)
  }
}

@inline(never)
private func bringSome(_ x: Input, _ rows: StridedRows, _ count: Int, _ tile: Scratch) {
  var c = 0
  while c < rows.size {
    put(all(0), tile, c &* width)
    var lane = 0
    while lane < count {
      tile[c &* width &+ lane] = element_widened(x[lane &* rows.step &+ c])
      lane &+= 1
    }
    c &+= 1
  }
}

/// The rows of a tile to where they belong: by way of `flat` past the cache, if it is there.
@inline(__always)
func sendGroup(
  _ tile: Scratch, _ y: Output, _ rows: StridedRows, _ row: Int, _ count: Int,
  past flat: Scratch?
) {
  let start = y + row &* rows.step
  if count < width || rows.step != rows.size {
    sendSome(tile, start, rows, count)
  } else if let flat {
    streamGroup(tile, start, rows.size, flat)
  } else {
    turnOut(tile, rows.size, start)
  }
}

@inline(never)
private func streamGroup(_ tile: Scratch, _ y: Output, _ size: Int, _ flat: Scratch) {
  let f = UnsafeMutableRawPointer(flat).assumingMemoryBound(to: Element.self)
  turnOut(tile, size, f)
  emitPast(y, size &* width) { load(f, $0) }
}

@inline(never)
private func sendSome(_ tile: Scratch, _ y: Output, _ rows: StridedRows, _ count: Int) {
  var c = 0
  while c < rows.size {
    var lane = 0
    while lane < count {
      y[lane &* rows.step &+ c] = element_narrowed(tile[c &* width &+ lane])
      lane &+= 1
    }
    c &+= 1
  }
}
