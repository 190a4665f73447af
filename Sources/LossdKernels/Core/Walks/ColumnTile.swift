internal import CLossdLanes
import LossdKernelTable

/// Some rows that lie next to one another, in scratch: groups of `width` rows, each in the form of
/// a tile. The last group may have rows of the one before; if there are fewer rows than lanes, some
/// lanes are empty.
struct ColumnTile {
  /// The first row, and how many.
  let first: Int
  let count: Int
  let size: Int
  let stride: Int
  private let maxima: Scratch
  private let factors: Scratch
  /// Two vectors a group: a number a row, or a sum.
  private let more: Scratch
  private let tiles: Scratch

  init(_ memory: UnsafeMutableRawPointer, _ rows: StridedRows, first: Int, count: Int) {
    self.first = first
    self.count = count
    size = rows.size
    stride = rows.stride
    let base = memory.assumingMemoryBound(to: Scalar.self)
    let room = (count &+ width &- 1) / width &* width
    maxima = base
    factors = base + room
    more = base + 2 &* room
    tiles = base + 4 &* room
  }

  /// The tiles of rows, one after the other; the last takes what would be less than a vector.
  @inline(__always)
  static func each(
    _ memory: UnsafeMutableRawPointer, _ rows: StridedRows, _ body: (ColumnTile) -> Void
  ) {
    let most = StridedRows.tileRows(size: rows.size)
    var first = 0
    while first < rows.count {
      let rest = rows.count &- first
      let count = rest < most &+ width ? rest : most
      body(ColumnTile(memory, rows, first: first, count: count))
      first &+= count
    }
  }

  @inline(__always)
  var groups: Int { (count &+ width &- 1) / width }

  /// Rows of a group.
  @inline(__always)
  var lanes: Int { count < width ? count : width }

  @inline(__always)
  func group(_ index: Int) -> Scratch { tiles + index &* width &* size }

  /// The number, within the tile, of a group's first row.
  @inline(__always)
  func column(_ group: Int) -> Int {
    let last = count &- width
    return group &* width < last ? group &* width : last < 0 ? 0 : last
  }

  @inline(__always)
  func maximum(_ group: Int) -> Lanes { fetch(maxima, group &* width) }

  @inline(__always)
  func factor(_ group: Int) -> Lanes { fetch(factors, group &* width) }

  @inline(__always)
  func setFactor(_ group: Int, _ value: Lanes) { put(value, factors, group &* width) }

  /// What is known of a group's rows; what is set as the factor may be the logarithm.
  @inline(__always)
  func numbers(_ group: Int) -> RowNumbers {
    RowNumbers(
      maximum: maximum(group), factor: factor(group), logarithm: factor(group),
      dot: fetch(more, 2 &* group &* width))
  }

  @inline(__always)
  func setSecond(_ group: Int, _ value: Lanes) { put(value, more, 2 &* group &* width) }

  /// Reads the rows, and their maxima on the way.
  @inline(never)
  func read(_ x: Input) {
    let start = x + first
    if count < width {
      readSome(start)
      return
    }
    var g = 0
    while g < groups {
      put(all(-.infinity), maxima, g &* width)
      g &+= 1
    }
    var c = 0
    while c < size {
      let line = start + c &* stride
      g = 0
      while g < groups {
        let value = load(line, column(g))
        put(value, group(g), c &* width)
        put(larger(maximum(g), value), maxima, g &* width)
        g &+= 1
      }
      c &+= 1
    }
  }

  @inline(never)
  private func readSome(_ x: Input) {
    var m = all(-.infinity)
    var c = 0
    while c < size {
      var lane = 0
      while lane < width {
        tiles[c &* width &+ lane] = lane < count ? element_widened(x[c &* stride &+ lane]) : 0
        lane &+= 1
      }
      m = larger(m, fetch(tiles, c &* width))
      c &+= 1
    }
    put(m, maxima, 0)
  }

  /// Sums over each row: `add` is called for every vector, along the memory of a tensor of the same
  /// layout, with the element's number, the group's, and where the vector lies. They come to be
  /// `second`.
  @inline(__always)
  func sum(_ add: (inout Sums, Int, Int, Int) -> Void) {
    let sums = UnsafeMutableRawPointer(more).assumingMemoryBound(to: Sums.self)
    var g = 0
    while g < groups {
      sums[g] = Sums()
      g &+= 1
    }
    var c = 0
    while c < size {
      g = 0
      while g < groups {
        add(&sums[g], c, g, first &+ c &* stride &+ column(g))
        g &+= 1
      }
      c &+= 1
    }
  }

  /// What `sum` has summed in a group's rows.
  @inline(__always)
  func sum(_ group: Int) -> Sums {
    UnsafeMutableRawPointer(more).assumingMemoryBound(to: Sums.self)[group]
  }

  /// Writes `value(c, g, place)` for each vector, along the memory of `y`; `place` is where it
  /// goes.
  @inline(__always)
  func write(_ y: Output, isStreamed: Bool, _ value: (Int, Int, Int) -> Lanes) {
    if isStreamed && isAligned(y) {
      emitAll(y, value) { lanes_stream($0, $1) }
    } else {
      emitAll(y, value) { lanes_store($0, $1) }
    }
  }

  @inline(__always)
  private func emitAll(
    _ y: Output, _ value: (Int, Int, Int) -> Lanes, _ emit: (Output, Lanes) -> Void
  ) {
    var c = 0
    while c < size {
      let line = first &+ c &* stride
      var g = 0
      while g < groups {
        let place = line &+ column(g)
        let v = value(c, g, place)
        if count < width {
          storePart(v, y + place, 0, count)
        } else {
          emit(y + place, v)
        }
        g &+= 1
      }
      c &+= 1
    }
  }

  /// Whether all vectors are aligned: then whole lines can be written past the cache.
  @inline(__always)
  private func isAligned(_ y: Output) -> Bool {
    count % width == 0 && stride % width == 0 && misalignment(y + first) == 0
  }
}

@inline(never)
func loadPart(_ x: Input, _ count: Int) -> Lanes {
  var tile = all(0)
  var lane = 0
  while lane < count {
    tile[lane] = element_widened(x[lane])
    lane &+= 1
  }
  return tile
}
