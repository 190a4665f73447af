import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// How long rows that lie across memory are cut: in blocks of neighbouring rows and some elements of each, so
/// that memory is read and written along its lines, and in the order of these. The cut depends on the shape
/// alone, and blocks are merged in order.
struct BlockLayout: BitwiseCopyable {
  /// Rows of a block but for the last ones, which may have up to twice as many.
  private static let columnsPerTile = 1024
  /// Elements of a block, which stays in the second-level cache between its sweeps.
  private static let blockElements = 1 << 16
  /// Vectors are not longer.
  private static let innerMin = 16
  /// Shorter rows are kept whole in a tile that is still wide.
  private static let sizeMin = 513

  let slabs: Int
  let size: Int
  let inner: Int
  private let tiles: Int
  private let length: Int
  let blocks: Int

  init?(rows: Int, size: Int, inner: Int) {
    guard inner >= BlockLayout.innerMin, size >= BlockLayout.sizeMin else { return nil }
    slabs = rows / inner
    self.size = size
    self.inner = inner
    tiles = max(inner / BlockLayout.columnsPerTile, 1)
    length = max(BlockLayout.blockElements / min(inner, BlockLayout.columnsPerTile), 1)
    blocks = parts(size, of: length)
  }

  var blockUnits: Int { slabs * blocks * tiles }
  var mergeUnits: Int { slabs * tiles }
  var elementsPerUnit: Int { length * columnsMax }
  /// The most rows of a block.
  var columnsMax: Int { inner - (tiles - 1) * min(inner, BlockLayout.columnsPerTile) }

  /// Three float64 for each row of each block, and then for each row.
  var workspaceBytes: Int { 3 * slabs * (blocks + 1) * inner * MemoryLayout<Double>.stride }

  struct Block {
    let slab: Int
    /// The first row, within the slab, and how many.
    let column: Int
    let columns: Int
    /// The number of the block within its rows; the first element, and how many.
    let number: Int
    let first: Int
    let length: Int
  }

  func block(_ unit: Int) -> Block {
    let (row, tile) = unit.quotientAndRemainder(dividingBy: tiles)
    let (slab, number) = row.quotientAndRemainder(dividingBy: blocks)
    let column = tile * BlockLayout.columnsPerTile
    return Block(
      slab: slab, column: column,
      columns: tile == tiles - 1 ? inner - column : BlockLayout.columnsPerTile, number: number,
      first: number * length, length: min(length, size - number * length))
  }

  func start(_ block: Block) -> Int { (block.slab * size + block.first) * inner + block.column }

  /// Where the maxima, sums or shares of a slab's block are; `blocks` stands for the merged ones.
  func numbers(
    _ workspace: UnsafeMutableRawPointer, _ slab: Int, block: Int, kind: Int
  ) -> UnsafeMutablePointer<Double> {
    workspace.assumingMemoryBound(to: Double.self)
      + ((slab * (blocks + 1) + block) * 3 + kind) * inner
  }
}

extension SoftmaxFunction {
  /// A pass over the blocks for their sums, one that merges them, and one that writes.
  static func planBlocks(_ call: Call, _ plan: inout Plan, _ layout: BlockLayout) {
    let elements = Double(layout.elementsPerUnit)
    plan.addPass(units: layout.blockUnits, unitCost: 0.5 * elements)
    plan.addPass(
      units: layout.mergeUnits, unitCost: 3 * Double(layout.blocks * layout.columnsMax))
    plan.addPass(units: layout.blockUnits, unitCost: 0.5 * elements)
    plan.setWorkspace(bytes: layout.workspaceBytes)
    plan.setScratch(bytes: StridedRows.blockScratchBytes(columns: layout.columnsMax))
  }

  static func runBlocks(
    _ build: KernelBuild, _ call: Call, _ layout: BlockLayout, _ chunk: Chunk,
    pass: Int
  ) throws(StatusError) {
    guard let input = source(call) else { return }
    let tiles = Tiles(build, input)
    let upstream =
      call.wants(ActivationPlaces.gradient) ? call.input(ActivationPlaces.upstream) : nil
    let isStreamed = Streaming.isWorthwhile(
      input.count, input.dataType, results: resultCount(call))
    for unit in chunk.range {
      if pass == 1 {
        try merge(build, call, layout, layout.block(unitOfTile(unit, layout)), chunk.scratch)
        continue
      }
      let block = layout.block(unit)
      let start = layout.start(block)
      func numbers(_ number: Int, _ kind: Int) -> UnsafeMutablePointer<Double> {
        layout.numbers(call.workspace, block.slab, block: number, kind: kind) + block.column
      }
      let number = pass == 0 ? block.number : layout.blocks
      var rows = RowCall(
        formula, x: tiles.direct(input, start),
        y: upstream.map { UnsafeRawPointer(tiles.direct($0, start)) },
        values: call.output(ActivationPlaces.output).map { tiles.direct($0, start) },
        gradient: call.output(ActivationPlaces.gradient).map { tiles.direct($0, start) },
        rows: StridedRows(
          count: block.columns, size: block.length, step: 1, stride: layout.inner),
        scratch: chunk.scratch, isStreamed: isStreamed,
        step: pass == 0 ? .blockSums : .blockResults,
        sums: BlockSums(
          maxima: numbers(number, 0), sums: numbers(number, 1), dots: numbers(number, 2)))
      tiles.kernels.rows(&rows)
    }
    if isStreamed { tiles.kernels.settle() }
  }

  /// A unit of the first block of a merge unit's rows.
  private static func unitOfTile(_ unit: Int, _ layout: BlockLayout) -> Int {
    let tiles = layout.mergeUnits / layout.slabs
    return unit / tiles * layout.blocks * tiles + unit % tiles
  }

  /// Merges the blocks of some rows, in order.
  private static func merge(
    _ build: KernelBuild, _ call: Call, _ layout: BlockLayout, _ block: BlockLayout.Block,
    _ scratch: UnsafeMutableRawPointer
  ) throws(StatusError) {
    func numbers(_ number: Int, _ kind: Int) -> UnsafeMutablePointer<Double> {
      layout.numbers(call.workspace, block.slab, block: number, kind: kind) + block.column
    }
    let (count, merged) = (block.columns, layout.blocks)
    let (maxima, sums, dots) = (numbers(merged, 0), numbers(merged, 1), numbers(merged, 2))
    let factors = scratch.assumingMemoryBound(to: Double.self)
    let (sumErrors, dotErrors) = (factors + count, factors + 2 * count)
    let hasUpstream =
      call.wants(ActivationPlaces.gradient) && call.input(ActivationPlaces.upstream) != nil
    for index in 0..<count {
      // There may be so many blocks that merging them takes a tenth of a second.
      if index % 64 == 0 { try call.checkCancelled() }
      var most = -Double.infinity
      for part in 0..<layout.blocks { most = max(most, numbers(part, 0)[index]) }
      maxima[index] = most
      (sums[index], dots[index], sumErrors[index], dotErrors[index]) = (0, 0, 0, 0)
    }
    for part in 0..<layout.blocks {
      if part % 64 == 0 { try call.checkCancelled() }
      let (partMaxima, partSums, partShares) = (
        numbers(part, 0), numbers(part, 1), numbers(part, 2)
      )
      for index in 0..<count { factors[index] = partMaxima[index] - maxima[index] }
      build.float64.exp(factors, factors, count)
      for index in 0..<count {
        add(partSums[index] * factors[index], &sums[index], &sumErrors[index])
      }
      guard hasUpstream else { continue }
      for index in 0..<count {
        let share = isLogarithmic ? partShares[index] : partShares[index] * factors[index]
        add(share, &dots[index], &dotErrors[index])
      }
    }
    for index in 0..<count {
      sums[index] = total(sums[index], sumErrors[index])
      let dot = total(dots[index], dotErrors[index])
      dots[index] =
        switch (isLogarithmic, hasUpstream) {
        case (true, true): dot
        case (true, false): Double(layout.size)
        case (false, true): dot / sums[index]
        // 1, or NaN where the row has one.
        case (false, false): sums[index] / sums[index]
        }
    }
  }

  /// Knuth's TwoSum.
  @inline(__always)
  private static func add(_ value: Double, _ sum: inout Double, _ error: inout Double) {
    let new = sum + value
    let part = new - sum
    error += (sum - (new - part)) + (value - part)
    sum = new
  }

  @inline(__always)
  private static func total(_ sum: Double, _ error: Double) -> Double {
    error.isFinite ? sum + error : sum
  }
}
