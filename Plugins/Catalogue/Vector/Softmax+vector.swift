import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension SoftmaxFunction {
  /// Whether the vector kernels compute this: rows without a cast; at another dim than the last,
  /// float32 and float64.
  static func isVector(_ input: TensorView, _ type: DataType, _ layout: RowLayout) -> Bool {
    guard Kernels.chosen != nil, type == input.dataType else { return false }
    return layout.inner == 1 || type == .float32 || type == .float64
  }

  /// Scratch for widened rows, bytes.
  static func vectorScratch(_ type: DataType, _ layout: RowLayout) -> Int {
    type == .float32 || type == .float64
      ? 0 : 2 * TileRows.capacity(layout.size) * MemoryLayout<Float>.size
  }

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: SoftmaxState, _ chunk: Chunk
  ) {
    guard let input = call.input(0) else { return }
    if state.layout.inner > 1 {
      columns(Tiles(build, input), call, input, state.layout, chunk.range)
    } else {
      rows(Tiles(build, input), call, input, state.layout.size, chunk)
    }
  }

  private static func rows(
    _ tiles: Tiles, _ call: Call, _ input: TensorView, _ size: Int, _ chunk: Chunk
  ) {
    // Few rows at a time, so that a gradient finds its result in the cache.
    let step = TileRows.count(size)
    let tile = chunk.scratch
    let second = tile + (tiles.isDirect(input) ? 0 : TileRows.capacity(size) * tiles.elementBytes)
    var row = chunk.range.lowerBound
    while row < chunk.range.upperBound {
      let count = min(step, chunk.range.upperBound - row)
      let (begin, elements) = (row * size, count * size)
      var result: UnsafeMutableRawPointer?
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
    _ tiles: Tiles, _ call: Call, _ input: TensorView, _ layout: RowLayout, _ range: Range<Int>
  ) {
    let kernels = tiles.kernels
    let (size, inner) = (layout.size, layout.inner)
    var row = range.lowerBound
    while row < range.upperBound {
      // Columns next to one another, up to the end of the slab that they are in.
      let count = min(range.upperBound - row, inner - row % inner)
      let start = layout.start(row)
      let x = UnsafeRawPointer(tiles.direct(input, start))
      if let output = call.output(0) {
        let y = tiles.direct(output, start)
        (isLogarithmic ? kernels.logSoftmaxColumns : kernels.softmaxColumns)(
          x, y, size, inner, count)
      }
      if let gradient = call.output(1) {
        let y = tiles.direct(gradient, start)
        let upstream = call.input(1).map { UnsafeRawPointer(tiles.direct($0, start)) }
        (isLogarithmic ? kernels.logSoftmaxColumnsBackward : kernels.softmaxColumnsBackward)(
          x, upstream, y, size, inner, count)
      }
      row += count
    }
  }
}
