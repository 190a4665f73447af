import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension SoftmaxFunction {
  /// Whether the vector kernels compute this: rows of types that float32 holds, without a cast; at
  /// another dim than the last, float32.
  static func isVector(_ input: TensorView, _ type: DataType, _ layout: RowLayout) -> Bool {
    guard Kernels.chosen != nil, type == input.dataType else { return false }
    return layout.inner == 1 ? Tiles.canWiden(type) : type == .float32
  }

  /// Scratch for widened rows, bytes.
  static func vectorScratch(_ type: DataType, _ layout: RowLayout) -> Int {
    type == .float32 ? 0 : 2 * TileRows.capacity(layout.size) * MemoryLayout<Float>.size
  }

  static func runVector(
    _ kernels: KernelTable, _ call: Call, _ state: SoftmaxState, _ chunk: Chunk
  ) {
    guard let input = call.input(0) else { return }
    if state.layout.inner > 1 {
      columns(kernels, call, input, state.layout, chunk.range)
    } else {
      rows(Tiles(kernels: kernels), call, input, state.layout.size, chunk)
    }
  }

  private static func rows(
    _ tiles: Tiles, _ call: Call, _ input: TensorView, _ size: Int, _ chunk: Chunk
  ) {
    let isWide = input.dataType == .float32
    // Few rows at a time, so that a gradient finds its result in the cache.
    let step = TileRows.count(size)
    let tile = chunk.scratch.assumingMemoryBound(to: Float.self)
    let second = tile + (isWide ? 0 : TileRows.capacity(size))
    var row = chunk.range.lowerBound
    while row < chunk.range.upperBound {
      let count = min(step, chunk.range.upperBound - row)
      let (begin, elements) = (row * size, count * size)
      var result: UnsafeMutablePointer<Float>?
      if let output = call.output(0) {
        let x = tiles.read(input, begin, elements, tile: tile)
        let y = tiles.target(output, begin, tile: tile)
        (isLogarithmic ? tiles.kernels.logSoftmax : tiles.kernels.softmax)(x, y, count, size)
        tiles.commit(output, begin, elements, tile: tile)
        result = y
      }
      if let gradient = call.output(1) {
        let upstream = call.input(1).map { tiles.read($0, begin, elements, tile: second) }
        let y = tiles.target(gradient, begin, tile: tile)
        if let result {
          (isLogarithmic ? tiles.kernels.logSoftmaxGradient : tiles.kernels.softmaxGradient)(
            result, upstream, y, count, size)
        } else {
          let x = tiles.read(input, begin, elements, tile: tile)
          (isLogarithmic ? tiles.kernels.logSoftmaxBackward : tiles.kernels.softmaxBackward)(
            x, upstream, y, count, size)
        }
        tiles.commit(gradient, begin, elements, tile: tile)
      }
      row += count
    }
  }

  private static func columns(
    _ kernels: KernelTable, _ call: Call, _ input: TensorView, _ layout: RowLayout,
    _ range: Range<Int>
  ) {
    let x = UnsafePointer(input.elements(as: Float.self))
    let (size, inner) = (layout.size, layout.inner)
    var row = range.lowerBound
    while row < range.upperBound {
      // Columns next to one another, up to the end of the slab that they are in.
      let count = min(range.upperBound - row, inner - row % inner)
      let start = layout.start(row)
      if let output = call.output(0) {
        let y = output.elements(as: Float.self) + start
        (isLogarithmic ? kernels.logSoftmaxColumns : kernels.softmaxColumns)(
          x + start, y, size, inner, count)
      }
      if let gradient = call.output(1) {
        let y = gradient.elements(as: Float.self) + start
        let upstream = call.input(1).map { UnsafePointer($0.elements(as: Float.self)) + start }
        (isLogarithmic ? kernels.logSoftmaxColumnsBackward : kernels.softmaxColumnsBackward)(
          x + start, upstream, y, size, inner, count)
      }
      row += count
    }
  }
}
