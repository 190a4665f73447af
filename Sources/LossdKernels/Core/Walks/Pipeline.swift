// Long rows in a pipeline: while the exponentials of one row are computed, the next is read and the
// results of the one before are written. The processor's few write buffers would keep it waiting if
// results came all at once.
internal import CLossdLanes
import LossdKernelTable

/// Contiguous rows of a tensor.
struct RowRun {
  let x: Input
  let rows: StridedRows
  let scratch: RowScratch

  @inline(__always)
  init(_ rows: Rows) {
    x = rows.x
    self.rows = rows.layout
    scratch = RowScratch(rows.scratch, rows.layout.size)
  }

  @inline(__always)
  func start(_ row: Int) -> Int { row &* rows.step }

  @inline(__always)
  func first() -> ReadyRow { readyRow(x, rows.size, scratch.turn(0)) }

  /// How to compute a row, and what follows it, or that itself again behind the last.
  @inline(__always)
  func sweep(_ row: Int) -> Sweep {
    Sweep(
      exponentials: scratch.turn(row), next: x + start(row &+ 1 < rows.count ? row &+ 1 : row),
      copy: scratch.turn(row &+ 1))
  }
}

/// What is known of a row whose results are still to be written.
struct RowEnd {
  /// Its place in the tensors, in elements.
  var start = 0
  /// Its elements or their lifted exponentials.
  var kept: UnsafePointer<Scalar>
  // `RowNumbers`.
  var maximum: Scalar = 0
  var factor: Scalar = 0
  var logarithm: Scalar = 0
  var dot: Scalar = 0
  /// The label, or the row's size, and the gradient there.
  var place = 0
  var own: Scalar = 0

  @inline(__always)
  var numbers: RowNumbers {
    RowNumbers(
      maximum: all(maximum), factor: all(factor), logarithm: all(logarithm), dot: all(dot))
  }
}

/// Where results go: one tensor or two, like x, and whether past the cache. One of them may be x.
struct RowOutputs {
  let first: Output
  let second: Output?
  let isStreamed: Bool
  private var seams = (Seam(), Seam())
  /// Elements before those that can be streamed, and how many these are.
  private(set) var head = 0
  private(set) var whole = 0

  @inline(__always)
  init(_ first: Output, _ second: Output?, isStreamed: Bool) {
    self.first = first
    self.second = second
    self.isStreamed = isStreamed
  }

  /// Begins a row.
  @inline(__always)
  mutating func begin(_ start: Int, _ size: Int) {
    head = isStreamed ? misalignment(first + start) : 0
    whole = (size &- head) / width &* width
  }

  /// Writes a whole vector.
  @inline(__always)
  func write(_ place: Int, _ value: (Lanes, Lanes)) {
    if isStreamed {
      lanes_stream(first + place, value.0)
      if let second { lanes_stream(second + place, value.1) }
    } else {
      store(value.0, first, place)
      if let second { store(value.1, second, place) }
    }
  }

  /// Writes what is before and behind the whole vectors: `value` gives the vector from an element
  /// of the row on.
  @inline(__always)
  mutating func writeEdges(_ start: Int, _ size: Int, _ value: (Int) -> (Lanes, Lanes)) {
    if head > 0 {
      let (a, b) = value(0)
      seams.0.begin(first + start, head, a)
      if let second { seams.1.begin(second + start, head, b) }
    }
    let rest = size &- head &- whole
    if rest == 0 { return }
    let (a, b) = value(size &- width)
    if isStreamed {
      let place = start &+ head &+ whole
      seams.0.end(first + place, rest, a)
      if let second { seams.1.end(second + place, rest, b) }
    } else {
      let last = start &+ size &- width
      storePart(a, first + last, width &- rest, width)
      if let second { storePart(b, second + last, width &- rest, width) }
    }
  }

  @inline(__always)
  mutating func flush() {
    seams.0.flush()
    seams.1.flush()
  }
}

/// Calls `prepare` with each row before its sweep; `beside` in it, with the row's place, the first
/// element of a vector, its exponentials and, for the last, which lanes it is the first to have;
/// `conclude` with the row and its sum for what is to be written then; and `value` for what that
/// is, of the vector from an element on.
@inline(__always)
func pipeline(
  _ run: RowRun, keeps: Bool, to results: RowOutputs,
  prepare: (Int, ReadyRow) -> Void = { _, _ in },
  beside: (Int, Int, Lanes, Bits?) -> Void = { _, _, _, _ in },
  conclude: (Int, ReadyRow, RowTotal) -> RowEnd,
  value: (RowEnd, Int) -> (Lanes, Lanes)
) {
  let size = run.rows.size
  var outputs = results
  var ready = run.first()
  var end = RowEnd(kept: ready.elements)
  var row = 0
  while row < run.rows.count {
    let start = run.start(row)
    let current = ready
    let (before, behind) = (end, outputs)
    prepare(row, current)
    let total = sweep(&ready, size, run.sweep(row), keeps: keeps) {
      beside(start, $0, $1, $2)
    } behind: {
      if $0 < behind.whole {
        let i = behind.head &+ $0
        behind.write(before.start &+ i, value(before, i))
      }
    }
    if row > 0 { outputs.writeEdges(end.start, size) { value(before, $0) } }
    end = conclude(row, current, total)
    outputs.begin(start, size)
    row &+= 1
  }
  var i = 0
  while i < outputs.whole {
    outputs.write(end.start &+ outputs.head &+ i, value(end, outputs.head &+ i))
    i &+= width
  }
  let last = end
  outputs.writeEdges(end.start, size) { value(last, $0) }
  outputs.flush()
}
