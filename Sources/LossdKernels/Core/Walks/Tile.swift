// As many rows as there are lanes, one a lane: element c of all rows is a vector, and behind it is that of
// element c + 1. Rows of few elements are turned into that form, a tile on the stack.
internal import CLossdLanes
import LossdKernelTable

/// A tile of `StridedRows.shortRow` vectors, and room for what turning four at a time adds.
struct Tile {
  private typealias Eight = (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes)
  private var storage: (Eight, Eight, Eight, Eight)

  /// Zeros.
  @inline(__always)
  init() { self.init(all(0)) }

  /// What was on the stack, which may be another call's: for a tile of which nothing is read that
  /// was not written before. Clearing three costs a few percent of a small call.
  @inline(__always)
  static var unset: Tile { Tile(lanes_unset()) }

  @inline(__always)
  private init(_ v: Lanes) {
    let eight = (v, v, v, v, v, v, v, v)
    storage = (eight, eight, eight, eight)
  }

  @inline(__always)
  mutating func pointer() -> Scratch {
    // The tile lives on the caller's stack as long as the caller uses this pointer.
    withUnsafeMutablePointer(to: &storage) {
      UnsafeMutableRawPointer($0).assumingMemoryBound(to: Scalar.self)
    }
  }
}

/// `width` rows of `n` elements each into a tile.
@inline(__always)
func turnIn(_ x: Input, _ n: Int, _ tile: Scratch) {
  if n < 4 {
    var c = 0
    while c < n {
      var lane = 0
      while lane < width {
        tile[c &* width &+ lane] = element_widened(x[lane &* n &+ c])
        lane &+= 1
      }
      c &+= 1
    }
    return
  }
  // Four columns at a time; the last four may have been among others already.
  var c = 0
  while c &+ 4 < n {
    lanes_turn_in(x + c, n, tile + c &* width)
    c &+= 4
  }
  lanes_turn_in(x + (n &- 4), n, tile + (n &- 4) &* width)
}

/// The way back.
@inline(__always)
func turnOut(_ tile: Scratch, _ n: Int, _ y: Output) {
  if n < 4 {
    var c = 0
    while c < n {
      var lane = 0
      while lane < width {
        y[lane &* n &+ c] = element_narrowed(tile[c &* width &+ lane])
        lane &+= 1
      }
      c &+= 1
    }
    return
  }
  var c = 0
  while c &+ 4 < n {
    lanes_turn_out(tile + c &* width, y + c, n)
    c &+= 4
  }
  lanes_turn_out(tile + (n &- 4) &* width, y + (n &- 4), n)
}

@inline(__always)
func copy(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i < count {
    y[i] = x[i]
    i &+= 1
  }
}
