// Long rows whose results are written past the cache, each while the next row's exponentials are computed:
// the processor's few write buffers would keep it waiting if they came all at once.
internal import CLossdLanes
import LossdKernelTable

/// Contiguous rows of a tensor.
struct RowRun {
  let x: Input
  let rows: StridedRows
  let scratch: RowScratch

  @inline(__always)
  init(_ x: Input, _ rows: StridedRows, _ memory: UnsafeMutableRawPointer) {
    self.x = x
    self.rows = rows
    scratch = RowScratch(memory, rows.size)
  }

  @inline(__always)
  func start(_ row: Int) -> Int { row &* rows.step }

  @inline(__always)
  func first() -> ReadyRow { readyRow(x, rows.size, scratch.turn(0)) }

  /// What follows `row`, or that itself again behind the last.
  @inline(__always)
  func next(_ row: Int) -> Input { x + start(row &+ 1 < rows.count ? row &+ 1 : row) }
}

/// What is known of a row whose results are still to be written.
struct RowEnd {
  /// Its place in the tensors, in elements.
  var start = 0
  /// Its elements or their lifted exponentials.
  var kept: UnsafePointer<Scalar>
  var maximum: Scalar = 0
  var logarithm: Scalar = 0
  /// What makes results of exponentials.
  var factor: Scalar = 0
  /// What upstream gradients are less of, or of what a multiple of the smoothed weights.
  var less: Scalar = 0
  /// The label, or the row's size, and the gradient there.
  var place = 0
  var own: Scalar = 0
}

/// Calls `conclude` with each row and its sum, for what is to be written then; and `value` for what that is, of
/// the vector that begins at an element. `outputs` are like x, and their rows lie alike in memory.
@inline(__always)
func streamRows(
  _ run: RowRun, keeps: Bool, to outputs: (Output, Output?),
  beside: (Int, Int, Lanes, Bits?) -> Void,
  conclude: (Int, ReadyRow, RowTotal) -> RowEnd,
  value: (RowEnd, Int) -> (Lanes, Lanes)
) {
  let size = run.rows.size
  var ready = run.first()
  var end = RowEnd(kept: ready.elements)
  var (head, limit) = (0, 0)
  @inline(__always)
  func writePart(_ end: RowEnd, _ i: Int, _ from: Int, _ to: Int) {
    let (a, b) = value(end, i)
    storePart(a, outputs.0 + (end.start &+ i), from, to)
    if let second = outputs.1 { storePart(b, second + (end.start &+ i), from, to) }
  }
  @inline(__always)
  func write(_ end: RowEnd, _ i: Int) {
    let (a, b) = value(end, i)
    lanes_stream(outputs.0 + (end.start &+ i), a)
    if let second = outputs.1 { lanes_stream(second + (end.start &+ i), b) }
  }
  @inline(__always)
  func writeEdges(_ end: RowEnd) {
    if head > 0 { writePart(end, 0, 0, head) }
    let rest = size &- head &- limit
    if rest > 0 { writePart(end, size &- width, width &- rest, width) }
  }
  var row = 0
  while row < run.rows.count {
    let start = run.start(row)
    let plan = Sweep(
      exponentials: run.scratch.turn(row), next: run.next(row),
      copy: run.scratch.turn(row &+ 1))
    let current = ready
    let (before, first, whole) = (end, head, limit)
    let total = sweep(&ready, size, plan, keeps: keeps) {
      beside(start, $0, $1, $2)
    } behind: {
      if $0 < whole { write(before, first &+ $0) }
    }
    if row > 0 { writeEdges(end) }
    end = conclude(row, current, total)
    head = misalignment(outputs.0 + start)
    limit = (size &- head) / width &* width
    row &+= 1
  }
  var i = 0
  while i < limit {
    write(end, head &+ i)
    i &+= width
  }
  writeEdges(end)
}
