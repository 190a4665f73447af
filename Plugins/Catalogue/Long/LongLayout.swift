import LossdPluginKit
import LossdTensor

/// How rows too long for one unit of work are cut: in blocks along the row, and across rows that lie next
/// to one another in tiles of columns. The cut depends on the shape alone, and blocks are merged in order,
/// so the bits of a result depend on neither the workers nor the chunks.
struct LongLayout: BitwiseCopyable {
  /// Elements of a block of all its columns: some 0.5 ms of scalar arithmetic.
  static let blockElements = 1 << 14
  /// Rows beyond this many elements are cut. The kernels take 64 Ki elements in well under a millisecond,
  /// scalar arithmetic does not.
  static func rowMax(isVector: Bool) -> Int { isVector ? 1 << 16 : 1 << 14 }
  private static let widthMax = 64

  let outer: Int
  let size: Int
  let inner: Int
  /// Columns of a tile; the last one of a slab may have fewer.
  let width: Int
  let tiles: Int
  /// Elements of a block along the row; the last one may have fewer.
  let length: Int
  let blocks: Int

  init(rows: Int, size: Int, inner: Int) {
    outer = rows / max(inner, 1)
    self.size = size
    self.inner = inner
    width = min(inner, LongLayout.widthMax)
    tiles = parts(inner, of: width)
    length = LongLayout.blockElements / width
    blocks = parts(size, of: length)
  }

  var rows: Int { outer * inner }
  var blockUnits: Int { outer * tiles * blocks }
  var mergeUnits: Int { outer * tiles }
  /// A state for each column of each block, then one for each row.
  var workspaceBytes: Int { (blockUnits * width + rows) * MemoryLayout<RowState>.stride }

  func block(_ unit: Int) -> LongBlock {
    let (tileUnit, block) = unit.quotientAndRemainder(dividingBy: blocks)
    let (slab, tile) = tileUnit.quotientAndRemainder(dividingBy: tiles)
    let column = tile * width
    let first = block * length
    return LongBlock(
      start: (slab * size + first) * inner + column, first: first,
      length: min(length, size - first), inner: inner, columns: min(width, inner - column),
      row: slab * inner + column, state: unit * width)
  }

  func states(_ workspace: UnsafeMutableRawPointer) -> UnsafeMutablePointer<RowState> {
    workspace.assumingMemoryBound(to: RowState.self)
  }

  func rowStates(_ workspace: UnsafeMutableRawPointer) -> UnsafeMutablePointer<RowState> {
    states(workspace) + blockUnits * width
  }

  /// Merges the blocks of one tile's rows.
  func merge(_ unit: Int, _ call: Call, sharesAreScaled: Bool) throws(StatusError) {
    let workspace = call.workspace
    let (partials, merged) = (states(workspace), rowStates(workspace))
    let block = block(unit * blocks)
    for column in 0..<block.columns {
      // So many that all columns together take a tenth of a second.
      if blocks > 1 << 10 { try call.checkCancelled() }
      merged[block.row + column] = RowState(
        merging: partials + block.state + column, count: blocks, step: width,
        sharesAreScaled: sharesAreScaled)
    }
  }
}

/// One unit of work: `length` elements of each of `columns` neighbouring rows.
struct LongBlock {
  /// The first element of the first column, in the tensor.
  let start: Int
  /// The place of the first element in its row.
  let first: Int
  let length: Int
  let inner: Int
  let columns: Int
  /// The number of the first column's row.
  let row: Int
  /// The place of the first column's state.
  let state: Int

  func place(_ column: Int, _ index: Int) -> Int { start + index * inner + column }
}
